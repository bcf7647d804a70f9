/*
 * cas_page.c
 *		Pages of an nbmf_cas index: reading, checking, making and changing them.
 *
 * A page is hostile until nbmf_cas_check_page has looked at it, which is each
 * time it has been locked: what follows trusts the counts and bounds of a page,
 * and nothing trusts a block number.
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "access/xlogrecord.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/freespace.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "cas/cas.h"

/*
 * Raise the error that a damaged page deserves.
 */
void
nbmf_cas_corrupted(Relation index, BlockNumber block, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is corrupted at block %u", RelationGetRelationName(index), block),
			 errdetail_internal("%s", what), errhint("REINDEX it.")));
	pg_unreachable();
}

/*
 * What the metapage says, from the relcache entry or from the page.
 */
CasInfo *
nbmf_cas_info(Relation index)
{
	CasInfo *info = index->rd_amcache;
	Buffer buffer;
	Page page;
	CasMeta meta;

	if (info != NULL)
		return info;
	if (RelationGetNumberOfBlocks(index) < CAS_BLOCKS_MIN)
		nbmf_cas_corrupted(index, CAS_META_BLOCK, "The index has too few pages.");
	buffer = ReadBuffer(index, CAS_META_BLOCK);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	memcpy(&meta, ((char *) page + CAS_CONTENTS), sizeof(meta));
	if (PageIsNew(page) || PageGetSpecialSize(page) != 0 ||
		CasPageHead(page)->type != CAS_PAGE_META || CasPageHead(page)->id != CAS_PAGE_ID ||
		meta.magic != CAS_MAGIC)
		nbmf_cas_corrupted(index, CAS_META_BLOCK, "It is not the metapage of an nbmf_cas index.");
	UnlockReleaseBuffer(buffer);
	if (meta.version != CAS_VERSION)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("index \"%s\" has version %u of the format of nbmf_cas",
							   RelationGetRelationName(index), meta.version),
						errdetail("This version of nbmf reads version %d.", CAS_VERSION),
						errhint("Update the nbmf library, or REINDEX.")));
	if (meta.content < 1 || (int) meta.content > IndexRelationGetNumberOfKeyAttributes(index) ||
		(int) meta.scalars != IndexRelationGetNumberOfKeyAttributes(index) - 1)
		nbmf_cas_corrupted(index, CAS_META_BLOCK, "Its columns are not those of the index.");

	info = MemoryContextAlloc(index->rd_indexcxt, sizeof(CasInfo));
	info->scalars = (int) meta.scalars;
	info->content = (int) meta.content - 1;
	info->blocks = 0;
	index->rd_amcache = info;
	return info;
}

/*
 * Is the page of a locked buffer what a page of this index can be?  Bounds of
 * everything in it hold afterwards.
 */
void
nbmf_cas_check_page(Relation index, Buffer buffer)
{
	Page page = BufferGetPage(buffer);
	PageHeader header = (PageHeader) page;
	BlockNumber block = BufferGetBlockNumber(buffer);
	const CasHead *head;
	Size content = 0;

	if (PageIsNew(page))
		nbmf_cas_corrupted(index, block, "The page is empty.");
	if (header->pd_special != BLCKSZ || PageGetPageSize(page) != BLCKSZ ||
		header->pd_lower < CAS_CONTENTS || header->pd_lower > header->pd_upper ||
		header->pd_upper > header->pd_special)
		nbmf_cas_corrupted(index, block, "The page header is not one of this index.");
	head = CasPageHead(page);
	if (head->id != CAS_PAGE_ID || head->table >= CAS_TABLES || head->lo > head->hi)
		nbmf_cas_corrupted(index, block, "The head of the page is not one of this index.");

	switch (head->type)
	{
		case CAS_PAGE_META:
			content = sizeof(CasMeta);
			break;
		case CAS_PAGE_ROOT:
			content = sizeof(CasRoot);
			break;
		case CAS_PAGE_DIRECTORY:
			content = sizeof(BlockNumber) * CAS_SLOTS;
			break;
		case CAS_PAGE_BUCKET:
		case CAS_PAGE_OVERFLOW:
			content = nbmf_cas_count(page) * sizeof(uint64);
			if (header->pd_special - header->pd_upper !=
				nbmf_cas_count(page) *
					nbmf_cas_payload_size(head->table, nbmf_cas_info(index)->scalars))
				nbmf_cas_corrupted(index, block, "Keys and payloads are not equally many.");
			if (head->sorted > nbmf_cas_count(page))
				nbmf_cas_corrupted(index, block, "More entries are sorted than there are.");
			break;
		case CAS_PAGE_FREE:
			break;
		default:
			nbmf_cas_corrupted(index, block, "The page is of no known type.");
	}
	if (header->pd_lower != CAS_CONTENTS + content)
		nbmf_cas_corrupted(index, block, "The page has the wrong length.");
	if (head->type == CAS_PAGE_ROOT && CasPageRoot(page)->heavies > CAS_HEAVY)
		nbmf_cas_corrupted(index, block, "The root page counts too many values with many pages.");
}

/*
 * Lock a page to which a link or the directory led.  In a damaged index that may be
 * one that this backend has locked, as an insert has those of several tables: it
 * would wait for itself, for ever, and not even serve an interrupt.
 */
void
nbmf_cas_lock_page(Relation index, Buffer buffer, int lock)
{
	if (!BufferIsLocal(buffer) &&
		LWLockHeldByMe(BufferDescriptorGetContentLock(GetBufferDescriptor(buffer - 1))))
		nbmf_cas_corrupted(index, BufferGetBlockNumber(buffer), "It is linked to twice.");
	LockBuffer(buffer, lock);
}

/*
 * Read, lock and check a block.
 */
Buffer
nbmf_cas_read(Relation index, BlockNumber block, int lock, BufferAccessStrategy strategy)
{
	CasInfo *info = nbmf_cas_info(index);
	Buffer buffer;

	/* an index never gets shorter */
	if (block >= info->blocks)
	{
		info->blocks = RelationGetNumberOfBlocks(index);
		if (block >= info->blocks)
			nbmf_cas_corrupted(index, block, "There is no such block.");
	}
	buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
	nbmf_cas_lock_page(index, buffer, lock);
	nbmf_cas_check_page(index, buffer);
	return buffer;
}

/*
 * The same for a page that must be of this type and table.
 */
Buffer
nbmf_cas_read_typed(Relation index, BlockNumber block, int lock, CasPageType type, int table)
{
	Buffer buffer = nbmf_cas_read(index, block, lock, NULL);
	const CasHead *head = CasPageHead(BufferGetPage(buffer));

	if (head->type != type || head->table != table)
		nbmf_cas_corrupted(index, block, "The page is not of the type that is expected here.");
	return buffer;
}

/*
 * Serve an interrupt in the middle of a chain, of which a page is locked for
 * reading: while any page is locked, none is served.  False, and the page is
 * released, if the page may have changed meanwhile (VACUUM may have freed it);
 * the caller then begins the chain again.
 */
bool
nbmf_cas_pause(Relation index, Buffer buffer)
{
	XLogRecPtr lsn = PageGetLSN(BufferGetPage(buffer));

	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	CHECK_FOR_INTERRUPTS();
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (RelationNeedsWAL(index) && PageGetLSN(BufferGetPage(buffer)) == lsn)
		return true;
	UnlockReleaseBuffer(buffer);
	return false;
}

/*
 * The first of a page's sorted entries whose value is not less than one of the
 * bucket's; their number if there is none.
 *
 * Values are spread evenly, as a rule, so it is found near where it should be,
 * in a cache line or two, rather than by halving all of the page.
 */
int
nbmf_cas_first_of_value(Page page, uint16 value)
{
	const CasHead *head = CasPageHead(page);
	const uint64 *keys = CasPageKeys(page);
	int low = nbmf_cas_guess(value, head->lo >> 16, head->hi >> 16, head->sorted);
	int high = low;
	int step = 8;

	/* all before low are less, none from high on is */
	while (low > 0 && nbmf_cas_route(head->table, keys[low - 1]) >= value)
	{
		high = low - 1;
		low = Max(low - step, 0);
		step *= 2;
	}
	step = 8;
	while (high < head->sorted && nbmf_cas_route(head->table, keys[high]) < value)
	{
		low = high + 1;
		high = Min(high + step, head->sorted);
		step *= 2;
	}
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (nbmf_cas_route(head->table, keys[middle]) < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
nbmf_cas_page_init(Page page, CasPageType type, int table)
{
	CasHead *head;

	PageInit(page, BLCKSZ, 0);
	((PageHeader) page)->pd_lower = CAS_CONTENTS;
	head = CasPageHead(page);
	memset(head, 0, sizeof(CasHead));
	head->type = type;
	head->table = table;
	head->id = CAS_PAGE_ID;
	head->right = head->next = head->hint = InvalidBlockNumber;
}

/*
 * Put a row at the end of a page that has room.
 */
void
nbmf_cas_page_add(Page page, int table, const CasRow *row, int scalars)
{
	PageHeader header = (PageHeader) page;
	Size size = nbmf_cas_payload_size(table, scalars);
	int n = nbmf_cas_count(page);
	char *payload = nbmf_cas_payload(page, n, size);

	CasPageKeys(page)[n] = row->simhash;
	memcpy(payload, &row->tid, CAS_TID_SIZE);
	payload += CAS_TID_SIZE;
	if (table == CAS_TABLE_DIGEST)
	{
		memcpy(payload, &row->digest, sizeof(row->digest));
		payload += sizeof(row->digest);
	}
	memcpy(payload, row->scalars, scalars * sizeof(uint32));
	header->pd_lower += sizeof(uint64);
	header->pd_upper -= size;
}

/*
 * Make one of the first pages, as they are in an empty index.
 */
void
nbmf_cas_init_block(Relation index, Page page, BlockNumber block, int scalars, int content)
{
	PageHeader header = (PageHeader) page;

	if (block == CAS_META_BLOCK)
	{
		CasMeta meta = {
			.magic = CAS_MAGIC, .version = CAS_VERSION, .scalars = scalars, .content = content + 1};

		nbmf_cas_page_init(page, CAS_PAGE_META, 0);
		memcpy(((char *) page + CAS_CONTENTS), &meta, sizeof(meta));
		header->pd_lower += sizeof(meta);
	}
	else if (block < CAS_FIRST_BLOCK(0))
	{
		int table = (int) (block - CAS_ROOT_BLOCK(0));
		CasRoot *root;

		nbmf_cas_page_init(page, CAS_PAGE_ROOT, table);
		CasPageHead(page)->hi = CAS_PLACES - 1;
		root = CasPageRoot(page);
		memset(root, 0, sizeof(CasRoot));
		root->buckets = 1;
		for (int i = 0; i < CAS_GROUPS; i++)
			root->group[i] = InvalidBlockNumber;
		for (int i = 0; i < CAS_SLOTS; i++)
			root->slot[i] = CAS_FIRST_BLOCK(table);
		header->pd_lower += sizeof(CasRoot);
	}
	else
	{
		nbmf_cas_page_init(page, CAS_PAGE_BUCKET, (int) (block - CAS_FIRST_BLOCK(0)));
		CasPageHead(page)->hi = CAS_PLACES - 1;
	}
}

/*
 * A page that nobody uses, exclusively locked: a freed one, or a new one.  The
 * caller must initialize it.
 *
 * May be called with pages locked, as in nbtree: whoever holds the extension
 * lock, or the lock of a free page, waits for no other page.
 */
Buffer
nbmf_cas_new_buffer(Relation index)
{
	Buffer buffer;
	bool lock = !RELATION_IS_LOCAL(index);

	for (;;)
	{
		BlockNumber block = GetFreeIndexPage(index);

		if (block == InvalidBlockNumber)
			break;
		if (block < CAS_BLOCKS_MIN || block >= RelationGetNumberOfBlocks(index))
			continue;
		buffer = ReadBuffer(index, block);
		if (ConditionalLockBuffer(buffer))
		{
			Page page = BufferGetPage(buffer);

			/* the free space map is not to be trusted */
			if (PageIsNew(page))
				return buffer;
			nbmf_cas_check_page(index, buffer);
			if (CasPageHead(page)->type == CAS_PAGE_FREE)
				return buffer;
			LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		}
		ReleaseBuffer(buffer);
	}

	for (;;)
	{
		if (lock)
			LockRelationForExtension(index, ExclusiveLock);
		buffer = ReadBuffer(index, P_NEW);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		if (lock)
			UnlockRelationForExtension(index, ExclusiveLock);
		if (PageIsNew(BufferGetPage(buffer)))
			return buffer;
		/* before it was locked, VACUUM found it empty and somebody took it */
		UnlockReleaseBuffer(buffer);
	}
}

/*
 * Changes.  While building, nobody else sees the index, and its pages are
 * logged as a whole at the end.
 */
void
nbmf_cas_change_begin(CasChange *change, Relation index, bool building)
{
	change->xlog = building ? NULL : GenericXLogStart(index);
	change->n = 0;
}

/*
 * The page to change.  The first page registered is locked first when the
 * change is redone: see the order of locks in cas.h.
 */
Page
nbmf_cas_change_page(CasChange *change, Buffer buffer, bool fresh)
{
	if (change->xlog != NULL)
		return GenericXLogRegisterBuffer(change->xlog, buffer, fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
	Assert(change->n < MAX_GENERIC_XLOG_PAGES);
	change->buffers[change->n++] = buffer;
	return BufferGetPage(buffer);
}

void
nbmf_cas_change_finish(CasChange *change)
{
	if (change->xlog != NULL)
		(void) GenericXLogFinish(change->xlog);
	else
	{
		for (int i = 0; i < change->n; i++)
			MarkBufferDirty(change->buffers[i]);
	}
}

/*
 * A part of a page as a change of it in a generic record: see generic_xlog.c,
 * whose redo this is made for.
 */
static char *
put_fragment(char *delta, Page page, Size offset, Size len)
{
	OffsetNumber where = (OffsetNumber) offset;
	OffsetNumber size = (OffsetNumber) len;

	memcpy(delta, &where, sizeof(where));
	memcpy(delta + sizeof(where), &size, sizeof(size));
	memcpy(delta + sizeof(where) + sizeof(size), (char *) page + offset, len);
	return delta + sizeof(where) + sizeof(size) + len;
}

#define DELTA_MAX (64 + INDEX_MAX_KEYS * sizeof(uint32))

StaticAssertDecl(offsetof(PageHeaderData, pd_upper) ==
					 offsetof(PageHeaderData, pd_lower) + sizeof(LocationIndex),
				 "both bounds of a page are one fragment");
StaticAssertDecl(CAS_TABLES <= XLR_NORMAL_MAX_BLOCK_ID + 1, "a record has a page of each table");

/*
 * Add a row to pages of tables that have room, exclusively locked, by one WAL
 * record.
 *
 * GenericXLogFinish would copy each page and compare it byte by byte to find
 * out what we know, which takes most of the time of an insert.  So the record
 * it would make is made here.
 */
void
nbmf_cas_add(Relation index, const Buffer *buffers, int n, const CasRow *row, int scalars)
{
	char deltas[CAS_TABLES][DELTA_MAX];
	bool logged = RelationNeedsWAL(index);

	START_CRIT_SECTION();
	if (logged)
		XLogBeginInsert();
	for (int i = 0; i < n; i++)
	{
		Page page = BufferGetPage(buffers[i]);
		int table = CasPageHead(page)->table;
		Size size = nbmf_cas_payload_size(table, scalars);
		int at = nbmf_cas_count(page);
		char *end = deltas[i];

		nbmf_cas_page_add(page, table, row, scalars);
		MarkBufferDirty(buffers[i]);
		if (!logged)
			continue;
		end =
			put_fragment(end, page, offsetof(PageHeaderData, pd_lower), 2 * sizeof(LocationIndex));
		end = put_fragment(end, page, CAS_CONTENTS + at * sizeof(uint64), sizeof(uint64));
		end = put_fragment(end, page, nbmf_cas_payload(page, at, size) - (char *) page, size);
		XLogRegisterBuffer((uint8) i, buffers[i], REGBUF_STANDARD);
		XLogRegisterBufData((uint8) i, deltas[i], (int) (end - deltas[i]));
	}
	if (logged)
	{
		XLogRecPtr lsn = XLogInsert(RM_GENERIC_ID, 0);

		for (int i = 0; i < n; i++)
			PageSetLSN(BufferGetPage(buffers[i]), lsn);
	}
	END_CRIT_SECTION();
}
