/*
 * cas_check.c
 *		nbmf_index_check: is an index whole?  nbmf_index_page: what is on a page?
 *
 * The check needs no more than an AccessShareLock.  It reads the directory
 * before the buckets: all buckets that the directory then knew are there when
 * the buckets are walked, and start where they started.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "lib/bloomfilter.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cas/cas.h"

PG_FUNCTION_INFO_V1(nbmf_index_check);
PG_FUNCTION_INFO_V1(nbmf_index_page);

/* A bucket that the walk has met */
typedef struct Bucket
{
	BlockNumber block;
	uint32 lo;
} Bucket;

typedef struct Check
{
	Relation index;
	CasInfo info;
	bloom_filter *filter; /* entries seen; NULL: nobody asks */
	int64 entries;        /* of the table with digests */
	Bucket *bucket;
	int64 buckets;
	int64 room;
	CasRow *row;
	MemoryContext context; /* of a heap tuple */
} Check;

#define ENTRY_SIZE_MAX (1 + sizeof(uint64) + CAS_TID_SIZE + (1 + INDEX_MAX_KEYS) * sizeof(uint32))

/* What stands for an entry in the filter */
static Size
entry_image(char *image, int table, uint64 key, const char *payload, Size size)
{
	image[0] = (char) table;
	memcpy(image + 1, &key, sizeof(key));
	memcpy(image + 1 + sizeof(key), payload, size);
	return 1 + sizeof(key) + size;
}

static void
check_entries(Check *check, Buffer buffer)
{
	Page page = BufferGetPage(buffer);
	const CasHead *head = CasPageHead(page);
	Size size = nbmf_cas_payload_size(head->table, check->info.scalars);
	int n = nbmf_cas_count(page);

	for (int i = 0; i < n; i++)
	{
		uint64 key = CasPageKeys(page)[i];
		const char *payload = nbmf_cas_payload(page, i, size);
		uint32 digest = head->table == CAS_TABLE_DIGEST ? nbmf_cas_payload_digest(payload) : 0;
		uint32 place = nbmf_cas_place(head->table, key, digest);
		ItemPointerData tid;

		memcpy(&tid, payload, sizeof(tid));
		if (place < head->lo || place > head->hi)
			nbmf_cas_corrupted(check->index, BufferGetBlockNumber(buffer),
							   psprintf("Entry %d belongs to another bucket.", i));
		if (i > 0 && i < head->sorted &&
			place >> 16 < nbmf_cas_route(head->table, CasPageKeys(page)[i - 1]))
			nbmf_cas_corrupted(check->index, BufferGetBlockNumber(buffer),
							   psprintf("Entry %d is not in its order.", i));
		if (!ItemPointerIsValid(&tid))
			nbmf_cas_corrupted(check->index, BufferGetBlockNumber(buffer),
							   psprintf("Entry %d has no TID.", i));
		if (check->filter != NULL)
		{
			char image[ENTRY_SIZE_MAX];
			Size len = entry_image(image, head->table, key, payload, size);

			bloom_add_element(check->filter, (unsigned char *) image, len);
		}
	}
	if (head->table == CAS_TABLE_DIGEST)
		check->entries += n;
}

/*
 * Walk the buckets of a table: they must cover all values, in order.
 */
static void
check_buckets(Check *check, int table)
{
	Relation index = check->index;
	BlockNumber block = CAS_FIRST_BLOCK(table);
	uint64 expected = 0;

	check->buckets = 0;
	while (block != InvalidBlockNumber)
	{
		Buffer buffer =
			nbmf_cas_read_typed(index, block, BUFFER_LOCK_SHARE, CAS_PAGE_BUCKET, table);
		const CasHead *head = CasPageHead(BufferGetPage(buffer));
		BlockNumber right = head->right;
		uint32 lo = head->lo;
		uint32 hi = head->hi;
		BlockNumber hint = head->hint;
		BlockNumber pages = 0;
		int64 entries = check->entries;
		bool paused = false;

		if (head->lo != expected)
			nbmf_cas_corrupted(index, block, "The bucket does not begin where the last one ends.");
		if (head->next != InvalidBlockNumber && nbmf_cas_can_split(head))
			nbmf_cas_corrupted(index, block, "A bucket of several places has a chain.");
		if (((lo & 0xffff) != 0 || (hi & 0xffff) != 0xffff) &&
			(table != CAS_TABLE_DIGEST || lo >> 16 != hi >> 16))
			nbmf_cas_corrupted(index, block, "A value is parted that cannot be.");
		expected = (uint64) hi + 1;
		if ((expected == CAS_PLACES) != (right == InvalidBlockNumber))
			nbmf_cas_corrupted(index, block, "The last bucket is not at the end.");
		if (check->buckets >= check->room)
		{
			check->room = Max(1024, check->room * 2);
			check->bucket = check->bucket == NULL
								? palloc(check->room * sizeof(Bucket))
								: repalloc_huge(check->bucket, check->room * sizeof(Bucket));
		}
		check->bucket[check->buckets].block = block;
		check->bucket[check->buckets++].lo = head->lo;

		for (;;)
		{
			BlockNumber next = CasPageHead(BufferGetPage(buffer))->next;
			Buffer next_buffer;

			check_entries(check, buffer);
			if (next == InvalidBlockNumber)
				break;
			if (next == BufferGetBlockNumber(buffer) || ++pages > RelationGetNumberOfBlocks(index))
				nbmf_cas_corrupted(index, next, "The chain does not end.");
			next_buffer =
				nbmf_cas_read_typed(index, next, BUFFER_LOCK_SHARE, CAS_PAGE_OVERFLOW, table);
			head = CasPageHead(BufferGetPage(next_buffer));
			if (head->right != block || head->lo != lo || head->hi != hi)
				nbmf_cas_corrupted(index, next, "The page is part of another chain.");
			UnlockReleaseBuffer(buffer);
			buffer = next_buffer;
			if (next == hint)
				hint = InvalidBlockNumber;
			if (unlikely(InterruptPending))
			{
				/* VACUUM may be ahead afterwards, and free what the hint was meanwhile */
				paused = true;
				if (!nbmf_cas_pause(index, buffer))
				{
					buffer = nbmf_cas_read_typed(index, block, BUFFER_LOCK_SHARE, CAS_PAGE_BUCKET,
												 table);
					check->entries = entries;
					pages = 0;
				}
			}
		}
		UnlockReleaseBuffer(buffer);
		if (hint != InvalidBlockNumber && !paused)
			nbmf_cas_corrupted(index, block, "The bucket's hint leads out of its chain.");
		block = right;
		CHECK_FOR_INTERRUPTS();
	}
}

static int
compare_buckets(const void *a, const void *b)
{
	BlockNumber x = ((const Bucket *) a)->block;
	BlockNumber y = ((const Bucket *) b)->block;

	return x < y ? -1 : x > y;
}

/*
 * Does a slot of the directory name a bucket at or to the left of the place's?
 */
static void
check_slot(Check *check, BlockNumber where, BlockNumber slot, uint32 place)
{
	Bucket wanted = {.block = slot};
	const Bucket *found =
		bsearch(&wanted, check->bucket, check->buckets, sizeof(Bucket), compare_buckets);

	if (found == NULL || found->lo > place)
		nbmf_cas_corrupted(check->index, where,
						   psprintf("The directory is wrong about value %u.", place >> 16));
}

/*
 * Are all buckets that a value's own page names at or to the left of theirs?  The
 * page may know buckets that were not there yet when they were walked.
 */
static void
check_own_page(Check *check, int table, BlockNumber block, int value)
{
	BlockNumber *slots = palloc(sizeof(BlockNumber) * CAS_SLOTS);
	Buffer buffer =
		nbmf_cas_read_typed(check->index, block, BUFFER_LOCK_SHARE, CAS_PAGE_DIRECTORY, table);
	const CasHead *head = CasPageHead(BufferGetPage(buffer));

	if (table != CAS_TABLE_DIGEST || head->lo != nbmf_cas_first_place(value) ||
		head->hi != nbmf_cas_last_place(value))
		nbmf_cas_corrupted(check->index, block, "It is the page of another value.");
	memcpy(slots, CasPageSlots(BufferGetPage(buffer)), sizeof(BlockNumber) * CAS_SLOTS);
	UnlockReleaseBuffer(buffer);
	for (int i = 0; i < CAS_SLOTS; i++)
	{
		uint32 lo;

		if (i > 0 && slots[i] == slots[i - 1])
			continue;
		buffer =
			nbmf_cas_read_typed(check->index, slots[i], BUFFER_LOCK_SHARE, CAS_PAGE_BUCKET, table);
		lo = CasPageHead(BufferGetPage(buffer))->lo;
		UnlockReleaseBuffer(buffer);
		if (lo > nbmf_cas_first_place(value) + (uint32) i * CAS_SLOT_PIECES)
			nbmf_cas_corrupted(check->index, block,
							   psprintf("The directory is wrong about value %d.", value));
		CHECK_FOR_INTERRUPTS();
	}
	pfree(slots);
}

static void
check_table(Check *check, int table)
{
	Relation index = check->index;
	CasRoot *root = palloc(sizeof(CasRoot));
	BlockNumber *slots = palloc(sizeof(BlockNumber) * CAS_VALUES);

	nbmf_cas_read_root(index, table, root);
	for (int group = 0; group < CAS_GROUPS; group++)
	{
		Buffer buffer;
		const CasHead *head;

		if (root->group[group] == InvalidBlockNumber)
			continue;
		buffer = nbmf_cas_read_typed(index, root->group[group], BUFFER_LOCK_SHARE,
									 CAS_PAGE_DIRECTORY, table);
		head = CasPageHead(BufferGetPage(buffer));
		if (head->lo != nbmf_cas_first_place(group * CAS_GROUP_VALUES) ||
			head->hi != nbmf_cas_last_place(group * CAS_GROUP_VALUES + CAS_GROUP_VALUES - 1))
			nbmf_cas_corrupted(index, root->group[group], "It is the page of another group.");
		memcpy(slots + group * CAS_GROUP_VALUES, CasPageSlots(BufferGetPage(buffer)),
			   sizeof(BlockNumber) * CAS_GROUP_VALUES);
		UnlockReleaseBuffer(buffer);
	}

	check_buckets(check, table);

	qsort(check->bucket, check->buckets, sizeof(Bucket), compare_buckets);
	for (int64 i = 1; i < check->buckets; i++)
	{
		if (check->bucket[i].block == check->bucket[i - 1].block)
			nbmf_cas_corrupted(index, check->bucket[i].block, "The bucket is linked twice.");
	}
	for (int value = 0; value < CAS_VALUES; value++)
	{
		BlockNumber directory = root->group[value / CAS_GROUP_VALUES];

		if (directory != InvalidBlockNumber && (slots[value] & CAS_OWN_PAGE))
			check_own_page(check, table, slots[value] & ~CAS_OWN_PAGE, value);
		else if (directory != InvalidBlockNumber)
			check_slot(check, directory, slots[value], nbmf_cas_first_place(value));
		else if (value % CAS_SLOT_VALUES == 0)
			check_slot(check, CAS_ROOT_BLOCK(table), root->slot[value / CAS_SLOT_VALUES],
					   nbmf_cas_first_place(value));
	}
	pfree(slots);
	pfree(root);
}

/*
 * Is a heap tuple in all tables?
 */
static void
check_heap_tuple(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive,
				 void *arg)
{
	Check *check = arg;
	MemoryContext old = MemoryContextSwitchTo(check->context);

	if (nbmf_cas_make_row(index, &check->info, values, isnull, tid, check->row))
	{
		PGAlignedBlock block;

		for (int table = 0; table < CAS_TABLES; table++)
		{
			Size size = nbmf_cas_payload_size(table, check->info.scalars);
			char image[ENTRY_SIZE_MAX];
			Size len;

			/* an entry as it would be on a page */
			nbmf_cas_page_init(block.data, CAS_PAGE_BUCKET, table);
			nbmf_cas_page_add(block.data, table, check->row, check->info.scalars);
			len = entry_image(image, table, CasPageKeys(block.data)[0],
							  nbmf_cas_payload(block.data, 0, size), size);
			if (bloom_lacks_element(check->filter, (unsigned char *) image, len))
				ereport(ERROR,
						(errcode(ERRCODE_INDEX_CORRUPTED),
						 errmsg("row (%u,%u) of table \"%s\" is not in index \"%s\"",
								ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid),
								get_rel_name(index->rd_index->indrelid),
								RelationGetRelationName(index)),
						 errdetail("Its table %d lacks an entry.", table), errhint("REINDEX it.")));
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(check->context);
}

/*
 * Open an index for inspection: locks its table, too.
 */
static Relation
open_index(Oid index_oid, Relation *heap)
{
	Oid heap_oid = IndexGetRelation(index_oid, true);
	Relation index;

	if (!OidIsValid(heap_oid))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not an index of access method nbmf_cas",
							   get_rel_name(index_oid) ? get_rel_name(index_oid) : "?")));
	*heap = table_open(heap_oid, AccessShareLock);
	index = relation_open(index_oid, AccessShareLock);
	nbmf_cas_require_index(index);
	if (!nbmf_owns_relation(heap_oid))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, RelationGetRelationName(index));
	if (RELATION_IS_OTHER_TEMP(index))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot access temporary tables of other sessions")));
	return index;
}

/*
 * nbmf_index_check(index, heapallindexed): raises an error if the index is
 * damaged; returns how many rows are in it.
 */
Datum
nbmf_index_check(PG_FUNCTION_ARGS)
{
	Oid index_oid = PG_GETARG_OID(0);
	bool heap_all_indexed = PG_GETARG_BOOL(1);
	Check check = {0};
	Relation heap;
	Snapshot snapshot = NULL;

	check.index = open_index(index_oid, &heap);
	check.info = *nbmf_cas_info(check.index);
	if (!check.index->rd_index->indisready || !check.index->rd_index->indisvalid)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("index \"%s\" is not valid", RelationGetRelationName(check.index))));

	if (heap_all_indexed)
	{
		/* all that this snapshot sees is in the index before it is walked */
		snapshot = RegisterSnapshot(GetTransactionSnapshot());
		if (IsolationUsesXactSnapshot() && check.index->rd_index->indcheckxmin &&
			!TransactionIdPrecedes(HeapTupleHeaderGetXmin(check.index->rd_indextuple->t_data),
								   snapshot->xmin))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("index \"%s\" cannot be verified using transaction snapshot",
								   RelationGetRelationName(check.index))));
		check.filter = bloom_create(Max((int64) (heap->rd_rel->reltuples * CAS_TABLES), 1000),
									maintenance_work_mem, 0);
	}
	for (int table = 0; table < CAS_TABLES; table++)
		check_table(&check, table);

	if (heap_all_indexed)
	{
		IndexInfo *index_info = BuildIndexInfo(check.index);
		TableScanDesc scan = table_beginscan_strat(heap, snapshot, 0, NULL, true, true);

		/* as a scan that does not wait for other transactions */
		index_info->ii_Concurrent = true;
		index_info->ii_Unique = false;
		index_info->ii_ExclusionOps = NULL;
		index_info->ii_ExclusionProcs = NULL;
		index_info->ii_ExclusionStrats = NULL;
		check.row = palloc0(CAS_ROW_SIZE(check.info.scalars));
		check.context = AllocSetContextCreate(CurrentMemoryContext, "nbmf_index_check row",
											  ALLOCSET_DEFAULT_SIZES);
		(void) table_index_build_scan(heap, check.index, index_info, true, false, check_heap_tuple,
									  &check, scan);
		MemoryContextDelete(check.context);
		bloom_free(check.filter);
		UnregisterSnapshot(snapshot);
	}
	relation_close(check.index, AccessShareLock);
	table_close(heap, AccessShareLock);
	PG_RETURN_INT64(check.entries);
}

static const char *
page_type_name(int type)
{
	switch (type)
	{
		case CAS_PAGE_META:
			return "meta";
		case CAS_PAGE_ROOT:
			return "root";
		case CAS_PAGE_DIRECTORY:
			return "directory";
		case CAS_PAGE_BUCKET:
			return "bucket";
		case CAS_PAGE_OVERFLOW:
			return "overflow";
		default:
			return "free";
	}
}

/*
 * nbmf_index_page(index, block)
 */
Datum
nbmf_index_page(PG_FUNCTION_ARGS)
{
	Oid index_oid = PG_GETARG_OID(0);
	int64 block = PG_GETARG_INT64(1);
	TupleDesc tupdesc;
	Datum values[8] = {0};
	bool nulls[8] = {0};
	Relation heap;
	Relation index;
	Buffer buffer;
	Page page;
	CasHead head;
	bool entries;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	index = open_index(index_oid, &heap);
	if (block < 0 || block >= (int64) RelationGetNumberOfBlocks(index))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("block number %lld is out of range", (long long) block)));
	buffer = nbmf_cas_read(index, (BlockNumber) block, BUFFER_LOCK_SHARE, NULL);
	page = BufferGetPage(buffer);
	head = *CasPageHead(page);
	entries = head.type == CAS_PAGE_BUCKET || head.type == CAS_PAGE_OVERFLOW;
	values[5] = Int32GetDatum(entries ? nbmf_cas_count(page) : 0);
	values[6] = Int32GetDatum(((PageHeader) page)->pd_upper - ((PageHeader) page)->pd_lower);
	UnlockReleaseBuffer(buffer);

	values[0] = CStringGetTextDatum(page_type_name(head.type));
	values[1] = Int32GetDatum(head.table);
	nulls[1] = head.type == CAS_PAGE_META || head.type == CAS_PAGE_FREE;
	values[2] = Int32GetDatum((int32) (head.lo >> 16));
	values[3] = Int32GetDatum((int32) (head.hi >> 16));
	nulls[2] = nulls[3] = nulls[1];
	values[4] = Int64GetDatum(head.right);
	nulls[4] = head.type != CAS_PAGE_BUCKET || head.right == InvalidBlockNumber;
	nulls[5] = !entries;
	values[7] = Int64GetDatum(head.next);
	nulls[7] = !entries || head.next == InvalidBlockNumber;
	relation_close(index, AccessShareLock);
	table_close(heap, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
