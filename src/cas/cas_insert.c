/*
 * cas_insert.c
 *		Putting rows into the tables of an nbmf_cas index.
 *
 * A row goes into one table after the other, each change atomic by itself.  A
 * row in some tables only is one whose insertion has not ended, or never will:
 * its heap tuple is visible to nobody else, and VACUUM removes what is there.
 * An inserter that must see concurrent ones (EXCLUDE) looks after it has
 * inserted, so of two of them the later one sees all of the other's entries.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "cas/cas.h"

/* An entry of a page that is split */
typedef struct Entry
{
	uint32 place;
	uint16 at;
} Entry;

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a;
	const Entry *y = b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return (int) x->at - (int) y->at;
}

/*
 * The part of a bucket's entries that stays when it is split: 9 of 20.  Fingerprints
 * are spread evenly, so halves, and halves of halves, would be full at the same time:
 * all would be split within a few rows, and pages be half empty after it.  Unequal
 * parts are not, and pages are about 69 % full at any time.
 */
#define SPLIT_KEPT 9
#define SPLIT_ALL  20

/*
 * Where to split a bucket: places from this one on go to the new one.  Values stay
 * together, as long as there are several.
 */
static uint32
split_point(const Entry *entries, int n, const CasHead *head, bool inside)
{
	uint32 step = inside ? 1 : nbmf_cas_first_place(1);
	uint32 middle =
		n > 0 ? entries[n * SPLIT_KEPT / SPLIT_ALL].place : head->lo + (head->hi - head->lo) / 2;
	int below = 0;
	int above = 0;

	middle = Min(Max(middle, head->lo), head->hi);
	middle -= middle % step;
	for (int i = 0; i < n; i++)
	{
		below += entries[i].place < middle;
		above += entries[i].place - middle >= step && entries[i].place >= middle;
	}

	/* the middle goes to the side that lacks more, if both sides stay */
	if (middle <= head->lo ||
		(below * (SPLIT_ALL - SPLIT_KEPT) < above * SPLIT_KEPT && head->hi - middle >= step))
		return middle + step;
	return middle;
}

/* Fill an empty page with entries of another, in their order */
static void
copy_entries(Page page, Page from, const Entry *entries, int n, Size size)
{
	PageHeader header = (PageHeader) page;

	for (int i = 0; i < n; i++)
	{
		CasPageKeys(page)[i] = CasPageKeys(from)[entries[i].at];
		memcpy(nbmf_cas_payload(page, i, size), nbmf_cas_payload(from, entries[i].at, size), size);
	}
	header->pd_lower = CAS_CONTENTS + n * sizeof(uint64);
	header->pd_upper = header->pd_special - n * size;
	CasPageHead(page)->sorted = (uint16) n;
}

/*
 * Move the upper part of a full bucket to a new one on its right, and sort both.
 * The bucket is locked, holds several values, and is released.
 */
static void
split_bucket(Relation index, Buffer buffer, int table, int scalars, bool building)
{
	Size size = nbmf_cas_payload_size(table, scalars);
	Buffer new_buffer = nbmf_cas_new_buffer(index);
	BlockNumber block = BufferGetBlockNumber(new_buffer);
	Entry entries[BLCKSZ / sizeof(uint64)];
	PGAlignedBlock old;
	CasChange change;
	CasHead *head;
	CasHead *new_head;
	Page page;
	Page new_page;
	uint32 point;
	uint32 hi;
	bool inside;
	int depth;
	int n;
	int kept = 0;

	nbmf_cas_change_begin(&change, index, building);
	page = nbmf_cas_change_page(&change, buffer, false);
	new_page = nbmf_cas_change_page(&change, new_buffer, true);
	memcpy(old.data, page, BLCKSZ);
	head = CasPageHead(page);
	n = nbmf_cas_count(page);
	for (int i = 0; i < n; i++)
	{
		uint32 digest = table == CAS_TABLE_DIGEST
							? nbmf_cas_payload_digest(nbmf_cas_payload(page, i, size))
							: 0;

		entries[i].place = nbmf_cas_place(table, CasPageKeys(page)[i], digest);
		entries[i].at = (uint16) i;
	}
	qsort(entries, n, sizeof(Entry), compare_entries);
	inside = head->lo >> 16 == head->hi >> 16;
	point = split_point(entries, n, head, inside);
	while (kept < n && entries[kept].place < point)
		kept++;
	hi = head->hi;

	nbmf_cas_page_init(new_page, CAS_PAGE_BUCKET, table);
	new_head = CasPageHead(new_page);
	new_head->lo = point;
	new_head->hi = hi;
	new_head->right = head->right;
	head->hi = point - 1;
	head->right = block;
	if (inside)
		head->depth++;
	new_head->depth = head->depth;
	depth = head->depth;
	copy_entries(page, old.data, entries, kept, size);
	copy_entries(new_page, old.data, entries + kept, n - kept, size);
	nbmf_cas_change_finish(&change);

	UnlockReleaseBuffer(buffer);
	nbmf_cas_directory_add(index, table, point, hi, block, depth, building);
	UnlockReleaseBuffer(new_buffer);
	/* about as many pages */
	if (((uint32) 1 << Min(depth, 20)) >= CAS_HEAVY_PAGES)
		nbmf_cas_directory_heavy(index, table, (uint16) (point >> 16), (uint32) 1 << Min(depth, 20),
								 true, building);
}

static int
add_rows(Page page, int table, CasRow *const *rows, int n, int scalars, uint32 lo, uint32 hi)
{
	Size size = nbmf_cas_payload_size(table, scalars);
	int added = 0;

	while (added < n && nbmf_cas_row_place(table, rows[added]) >= lo &&
		   nbmf_cas_row_place(table, rows[added]) <= hi && nbmf_cas_has_room(page, size))
		nbmf_cas_page_add(page, table, rows[added++], scalars);
	return added;
}

/*
 * Lock the page of a chain that the bucket's hint names, if it is still part
 * of this chain; otherwise the chain's first page.  InvalidBuffer: no chain.
 */
static Buffer
lock_hint(Relation index, BlockNumber block, int table, const CasHead *head)
{
	/* locking a page twice would wait for ever */
	if (head->hint == block || head->next == block)
		nbmf_cas_corrupted(index, block, "The bucket is linked to itself.");
	if (head->hint != InvalidBlockNumber)
	{
		Buffer buffer = nbmf_cas_read(index, head->hint, BUFFER_LOCK_EXCLUSIVE, NULL);
		const CasHead *hinted = CasPageHead(BufferGetPage(buffer));

		if (hinted->type == CAS_PAGE_OVERFLOW && hinted->table == table && hinted->right == block)
			return buffer;
		UnlockReleaseBuffer(buffer);
	}
	if (head->next == InvalidBlockNumber)
		return InvalidBuffer;
	return nbmf_cas_read_typed(index, head->next, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_OVERFLOW, table);
}

/*
 * Insert into the chain of a full bucket of one place, which is locked and is
 * released.  Returns how many rows went in; none if there was an interrupt to be
 * served, which is done once.
 */
static int
insert_into_chain(Relation index, Buffer buffer, int table, CasRow *const *rows, int n, int scalars,
				  bool building, bool *interrupted)
{
	Size size = nbmf_cas_payload_size(table, scalars);
	BlockNumber block = BufferGetBlockNumber(buffer);
	CasHead *head = CasPageHead(BufferGetPage(buffer));
	uint32 lo = head->lo;
	uint32 hi = head->hi;
	Buffer last = lock_hint(index, block, table, head);
	Buffer new_buffer = InvalidBuffer;
	CasChange change;
	Page page;
	BlockNumber pages = 0;
	uint32 chain = 0;
	int added;

	while (last != InvalidBuffer && !nbmf_cas_has_room(BufferGetPage(last), size))
	{
		BlockNumber next = CasPageHead(BufferGetPage(last))->next;
		Buffer next_buffer;

		if (next == InvalidBlockNumber)
			break;
		if (next == BufferGetBlockNumber(last) || next == block ||
			++pages > RelationGetNumberOfBlocks(index))
			nbmf_cas_corrupted(index, next, "The chain does not end.");
		next_buffer =
			nbmf_cas_read_typed(index, next, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_OVERFLOW, table);
		UnlockReleaseBuffer(last);
		last = next_buffer;
		if (unlikely(InterruptPending) && !*interrupted)
		{
			UnlockReleaseBuffer(last);
			UnlockReleaseBuffer(buffer);
			*interrupted = true;
			CHECK_FOR_INTERRUPTS();
			return 0;
		}
	}

	if (last != InvalidBuffer && !building && head->hint == BufferGetBlockNumber(last) &&
		nbmf_cas_has_room(BufferGetPage(last), size))
	{
		nbmf_cas_add(index, &last, 1, rows[0], scalars);
		UnlockReleaseBuffer(last);
		UnlockReleaseBuffer(buffer);
		return 1;
	}
	if (last != InvalidBuffer && nbmf_cas_has_room(BufferGetPage(last), size))
	{
		BlockNumber hint = BufferGetBlockNumber(last);

		nbmf_cas_change_begin(&change, index, building);
		if (head->hint != hint)
			CasPageHead(nbmf_cas_change_page(&change, buffer, false))->hint = hint;
		page = nbmf_cas_change_page(&change, last, false);
		added = add_rows(page, table, rows, n, scalars, lo, hi);
	}
	else
	{
		/* at the end of the chain, still locked, so nobody else appends here */
		new_buffer = nbmf_cas_new_buffer(index);
		nbmf_cas_change_begin(&change, index, building);
		head = CasPageHead(nbmf_cas_change_page(&change, buffer, false));
		head->hint = BufferGetBlockNumber(new_buffer);
		chain = ++head->chain;
		if (last == InvalidBuffer)
			head->next = head->hint;
		else
			CasPageHead(nbmf_cas_change_page(&change, last, false))->next = head->hint;
		page = nbmf_cas_change_page(&change, new_buffer, true);
		nbmf_cas_page_init(page, CAS_PAGE_OVERFLOW, table);
		CasPageHead(page)->lo = lo;
		CasPageHead(page)->hi = hi;
		CasPageHead(page)->right = block;
		added = add_rows(page, table, rows, n, scalars, lo, hi);
	}
	nbmf_cas_change_finish(&change);
	if (last != InvalidBuffer)
		UnlockReleaseBuffer(last);
	if (new_buffer != InvalidBuffer)
		UnlockReleaseBuffer(new_buffer);
	/* at 16 pages and each doubling */
	if (chain >= CAS_HEAVY_PAGES && (chain & (chain - 1)) == 0)
		nbmf_cas_directory_heavy(index, table, (uint16) (lo >> 16), chain, true, building);
	UnlockReleaseBuffer(buffer);
	return added;
}

/* Is a row with the same fingerprint, part of the digest and scalars on the page? */
static bool
page_has_digest(Page page, const CasRow *row, int scalars)
{
	Size size = nbmf_cas_payload_size(CAS_TABLE_DIGEST, scalars);
	uint16 value = nbmf_cas_route(CAS_TABLE_DIGEST, row->simhash);
	int n = nbmf_cas_count(page);

	for (int i = nbmf_cas_first_of_value(page, value); i < n; i++)
	{
		/* behind the sorted entries with the value come those that are not sorted */
		if (i < CasPageHead(page)->sorted &&
			nbmf_cas_route(CAS_TABLE_DIGEST, CasPageKeys(page)[i]) != value)
			i = CasPageHead(page)->sorted;
		if (i < n && CasPageKeys(page)[i] == row->simhash)
		{
			const char *payload = nbmf_cas_payload(page, i, size);

			if (nbmf_cas_payload_digest(payload) == row->digest &&
				memcmp(payload + size - scalars * sizeof(uint32), row->scalars,
					   scalars * sizeof(uint32)) == 0)
				return true;
		}
	}
	return false;
}

/*
 * Insert rows, in the order of their places (or else with more effort), into one
 * table.  Returns, for one row in the table with digests, whether its bucket's
 * first page had an equal one.
 */
int
nbmf_cas_insert_rows(Relation index, int table, CasRow *const *rows, int n, bool building)
{
	int scalars = nbmf_cas_info(index)->scalars;
	Size size = nbmf_cas_payload_size(table, scalars);
	int done = 0;
	int found = 0;
	bool interrupted = false;

	while (done < n)
	{
		Buffer buffer = nbmf_cas_lock_bucket(index, table, nbmf_cas_row_place(table, rows[done]),
											 BUFFER_LOCK_EXCLUSIVE);
		Page page = BufferGetPage(buffer);
		const CasHead *head = CasPageHead(page);

		if (table == CAS_TABLE_DIGEST && !building)
			found = page_has_digest(page, rows[done], scalars);

		if (nbmf_cas_has_room(page, size) && !building)
		{
			nbmf_cas_add(index, &buffer, 1, rows[done++], scalars);
			UnlockReleaseBuffer(buffer);
		}
		else if (nbmf_cas_has_room(page, size))
		{
			CasChange change;

			nbmf_cas_change_begin(&change, index, building);
			page = nbmf_cas_change_page(&change, buffer, false);
			done += add_rows(page, table, rows + done, n - done, scalars, CasPageHead(page)->lo,
							 CasPageHead(page)->hi);
			nbmf_cas_change_finish(&change);
			UnlockReleaseBuffer(buffer);
		}
		else if (nbmf_cas_can_split(head))
			split_bucket(index, buffer, table, scalars, building);
		else
			done += insert_into_chain(index, buffer, table, rows + done, n - done, scalars,
									  building, &interrupted);
	}
	return found;
}

/*
 * Which column of the index is the content, counted from 0?  Raises an error
 * if there is none, or more than one.
 */
int
nbmf_cas_content_column(Relation index, int *scalars)
{
	int columns = IndexRelationGetNumberOfKeyAttributes(index);
	int content = -1;

	for (int i = 0; i < columns; i++)
	{
		if (!OidIsValid(index_getprocid(index, i + 1, CAS_PROC_KEY)))
			continue;
		if (content >= 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an nbmf_cas index cannot have two columns of type nbmf or nbmf_key"),
					 errhint("Create an index for each of them.")));
		content = i;
	}
	if (content < 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("an nbmf_cas index needs a column of type nbmf or nbmf_key")));
	*scalars = columns - 1;
	return content;
}

/*
 * The row for a heap tuple; false if its content is null, and so not indexed.
 */
bool
nbmf_cas_make_row(Relation index, const CasInfo *info, Datum *values, bool *isnull, ItemPointer tid,
				  CasRow *row)
{
	const NbmfKey *key;
	int scalar = 0;

	if (isnull[info->content])
		return false;
	key = DatumGetNbmfKey(FunctionCall1(index_getprocinfo(index, info->content + 1, CAS_PROC_KEY),
										values[info->content]));
	row->simhash = key->simhash;
	row->digest = nbmf_cas_key_digest(key);
	row->tid = *tid;
	for (int i = 0; i <= info->scalars; i++)
	{
		if (i == info->content)
			continue;
		/* nobody looks for null */
		row->scalars[scalar++] = isnull[i]
									 ? 0
									 : (uint32) DatumGetUInt64(FunctionCall2Coll(
										   index_getprocinfo(index, i + 1, CAS_PROC_HASH),
										   index->rd_indcollation[i], values[i], Int64GetDatum(0)));
	}
	return true;
}

/*
 * Insert a row into all tables by one change, if its buckets have room; false
 * if they do not.  Locks of buckets are taken in the order of tables, and nobody
 * who waits for one holds a page of a later table.
 */
static bool
insert_together(Relation index, const CasRow *row, int scalars, bool *found)
{
	Buffer buffers[CAS_TABLES];
	bool room = true;
	int n = 0;

	for (int table = 0; table < CAS_TABLES; table++)
	{
		CasWalk walk = {.table = -1};
		uint16 value = nbmf_cas_route(table, row->simhash);

		/* only this table is looked into */
		if (table == CAS_TABLE_DIGEST)
			nbmf_cas_prefetch_value(index, table, value, &walk);
		else
			(void) nbmf_cas_prefetch_bucket(index, table, value);
	}
	while (n < CAS_TABLES && room)
	{
		Page page;

		buffers[n] =
			nbmf_cas_lock_bucket(index, n, nbmf_cas_row_place(n, row), BUFFER_LOCK_EXCLUSIVE);
		page = BufferGetPage(buffers[n]);
		room = nbmf_cas_has_room(page, nbmf_cas_payload_size(n, scalars));
		if (n == CAS_TABLE_DIGEST)
			*found = page_has_digest(page, row, scalars);
		n++;
	}
	if (room)
		nbmf_cas_add(index, buffers, CAS_TABLES, row, scalars);
	while (n > 0)
		UnlockReleaseBuffer(buffers[--n]);
	return room;
}

/*
 * aminsert
 *
 * An insert is a lookup in the statistics, too.
 */
bool
nbmf_cas_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
				IndexUniqueCheck check, bool unchanged, IndexInfo *index_info)
{
	CasInfo info = *nbmf_cas_info(index);
	MemoryContext context;
	MemoryContext old;
	CasRow *row;
	bool found = false;

	context = AllocSetContextCreate(CurrentMemoryContext, "nbmf_cas insert", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	row = palloc0(CAS_ROW_SIZE(info.scalars));
	if (nbmf_cas_make_row(index, &info, values, isnull, tid, row))
	{
		if (!insert_together(index, row, info.scalars, &found))
		{
			for (int table = 0; table < CAS_TABLES; table++)
				found |= nbmf_cas_insert_rows(index, table, &row, 1, false);
		}
		nbmf_cas_count_insert(index, row, found);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return false;
}
