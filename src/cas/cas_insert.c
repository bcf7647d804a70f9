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
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "cas/cas.h"
#include "stats/stats.h"

/* An entry of a page that is split */
typedef struct Entry
{
	uint16 value;
	uint16 at;
} Entry;

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a;
	const Entry *y = b;

	return x->value != y->value ? (int) x->value - (int) y->value : (int) x->at - (int) y->at;
}

/*
 * Where to split a bucket: values from this on go to the new one.
 */
static uint16
split_point(const Entry *entries, int n, const CasTail *tail)
{
	uint16 middle = n > 0 ? entries[n / 2].value : (uint16) ((tail->lo + tail->hi) / 2);
	int below = 0;
	int above = 0;

	for (int i = 0; i < n; i++)
	{
		below += entries[i].value < middle;
		above += entries[i].value > middle;
	}

	/* the middle value goes to the side that has less, if both sides stay */
	if (middle == tail->lo || (below < above && middle < tail->hi))
		return middle + 1;
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
	header->pd_lower = MAXALIGN(SizeOfPageHeaderData) + n * sizeof(uint64);
	header->pd_upper = header->pd_special - n * size;
	CasPageTail(page)->sorted = (uint16) n;
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
	CasTail *tail;
	CasTail *new_tail;
	Page page;
	Page new_page;
	uint16 point;
	uint16 hi;
	int n;
	int kept = 0;

	nbmf_cas_change_begin(&change, index, building);
	page = nbmf_cas_change_page(&change, buffer, false);
	new_page = nbmf_cas_change_page(&change, new_buffer, true);
	memcpy(old.data, page, BLCKSZ);
	tail = CasPageTail(page);
	n = nbmf_cas_count(page);
	for (int i = 0; i < n; i++)
	{
		entries[i].value = nbmf_cas_route(table, CasPageKeys(page)[i]);
		entries[i].at = (uint16) i;
	}
	qsort(entries, n, sizeof(Entry), compare_entries);
	point = split_point(entries, n, tail);
	while (kept < n && entries[kept].value < point)
		kept++;
	hi = tail->hi;

	nbmf_cas_page_init(new_page, CAS_PAGE_BUCKET, table);
	new_tail = CasPageTail(new_page);
	new_tail->lo = point;
	new_tail->hi = hi;
	new_tail->right = tail->right;
	tail->hi = point - 1;
	tail->right = block;
	copy_entries(page, old.data, entries, kept, size);
	copy_entries(new_page, old.data, entries + kept, n - kept, size);
	nbmf_cas_change_finish(&change);

	UnlockReleaseBuffer(buffer);
	nbmf_cas_directory_add(index, table, point, hi, block, building);
	UnlockReleaseBuffer(new_buffer);
}

static int
add_rows(Page page, int table, CasRow *const *rows, int n, int scalars, uint16 hi)
{
	Size size = nbmf_cas_payload_size(table, scalars);
	int added = 0;

	while (added < n && nbmf_cas_route(table, nbmf_cas_row_key(rows[added], table)) <= hi &&
		   nbmf_cas_has_room(page, size))
		nbmf_cas_page_add(page, table, rows[added++], scalars);
	return added;
}

/*
 * Lock the page of a chain that the bucket's hint names, if it is still part
 * of this chain; otherwise the chain's first page.  InvalidBuffer: no chain.
 */
static Buffer
lock_hint(Relation index, BlockNumber block, int table, const CasTail *tail)
{
	/* locking a page twice would wait for ever */
	if (tail->hint == block || tail->next == block)
		nbmf_cas_corrupted(index, block, "The bucket is linked to itself.");
	if (tail->hint != InvalidBlockNumber)
	{
		Buffer buffer = nbmf_cas_read(index, tail->hint, BUFFER_LOCK_EXCLUSIVE, NULL);
		const CasTail *hinted = CasPageTail(BufferGetPage(buffer));

		if (hinted->type == CAS_PAGE_OVERFLOW && hinted->table == table && hinted->right == block)
			return buffer;
		UnlockReleaseBuffer(buffer);
	}
	if (tail->next == InvalidBlockNumber)
		return InvalidBuffer;
	return nbmf_cas_read_typed(index, tail->next, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_OVERFLOW, table);
}

/*
 * Insert into the chain of a full bucket of one value, which is locked and is
 * released.  Returns how many rows went in.
 */
static int
insert_into_chain(Relation index, Buffer buffer, int table, CasRow *const *rows, int n, int scalars,
				  bool building)
{
	Size size = nbmf_cas_payload_size(table, scalars);
	BlockNumber block = BufferGetBlockNumber(buffer);
	CasTail *tail = CasPageTail(BufferGetPage(buffer));
	uint16 value = tail->lo;
	Buffer last = lock_hint(index, block, table, tail);
	Buffer new_buffer = InvalidBuffer;
	CasChange change;
	Page page;
	BlockNumber pages = 0;
	uint32 chain = 0;
	int added;

	while (last != InvalidBuffer && !nbmf_cas_has_room(BufferGetPage(last), size))
	{
		BlockNumber next = CasPageTail(BufferGetPage(last))->next;
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
	}

	if (last != InvalidBuffer && !building && tail->hint == BufferGetBlockNumber(last) &&
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
		if (tail->hint != hint)
			CasPageTail(nbmf_cas_change_page(&change, buffer, false))->hint = hint;
		page = nbmf_cas_change_page(&change, last, false);
		added = add_rows(page, table, rows, n, scalars, value);
	}
	else
	{
		/* at the end of the chain, still locked, so nobody else appends here */
		new_buffer = nbmf_cas_new_buffer(index);
		nbmf_cas_change_begin(&change, index, building);
		tail = CasPageTail(nbmf_cas_change_page(&change, buffer, false));
		tail->hint = BufferGetBlockNumber(new_buffer);
		chain = ++tail->chain;
		if (last == InvalidBuffer)
			tail->next = tail->hint;
		else
			CasPageTail(nbmf_cas_change_page(&change, last, false))->next = tail->hint;
		page = nbmf_cas_change_page(&change, new_buffer, true);
		nbmf_cas_page_init(page, CAS_PAGE_OVERFLOW, table);
		CasPageTail(page)->lo = CasPageTail(page)->hi = value;
		CasPageTail(page)->right = block;
		added = add_rows(page, table, rows, n, scalars, value);
	}
	nbmf_cas_change_finish(&change);
	if (last != InvalidBuffer)
		UnlockReleaseBuffer(last);
	if (new_buffer != InvalidBuffer)
		UnlockReleaseBuffer(new_buffer);
	/* at 16 pages and each doubling */
	if (chain >= CAS_HEAVY_PAGES && (chain & (chain - 1)) == 0)
		nbmf_cas_directory_heavy(index, table, value, chain, building);
	UnlockReleaseBuffer(buffer);
	return added;
}

/* Is a row with the same digest and scalars on the page? */
static bool
page_has_digest(Page page, const CasRow *row, int scalars)
{
	Size size = nbmf_cas_payload_size(CAS_TABLE_DIGEST, scalars);
	uint16 value = nbmf_cas_route(CAS_TABLE_DIGEST, row->digest[0]);
	int n = nbmf_cas_count(page);

	for (int i = nbmf_cas_first_of_value(page, value); i < n; i++)
	{
		/* behind the sorted entries with the value come those that are not sorted */
		if (i < CasPageTail(page)->sorted &&
			nbmf_cas_route(CAS_TABLE_DIGEST, CasPageKeys(page)[i]) != value)
			i = CasPageTail(page)->sorted;
		if (i < n && CasPageKeys(page)[i] == row->digest[0])
		{
			const char *payload = nbmf_cas_payload(page, i, size) + CAS_TID_SIZE;

			if (memcmp(payload, &row->digest[1], sizeof(uint64)) == 0 &&
				memcmp(payload + sizeof(uint64), row->scalars, scalars * sizeof(uint32)) == 0)
				return true;
		}
	}
	return false;
}

/*
 * Insert rows, in the order of the values that route them, into one table.
 * Returns, for one row in the table of digests, whether its bucket's first
 * page had an equal one.
 */
int
nbmf_cas_insert_rows(Relation index, int table, CasRow *const *rows, int n, bool building)
{
	int scalars = nbmf_cas_info(index)->scalars;
	Size size = nbmf_cas_payload_size(table, scalars);
	int done = 0;
	int found = 0;

	while (done < n)
	{
		uint16 value = nbmf_cas_route(table, nbmf_cas_row_key(rows[done], table));
		Buffer buffer = nbmf_cas_lock_bucket(index, table, value, BUFFER_LOCK_EXCLUSIVE);
		Page page = BufferGetPage(buffer);
		const CasTail *tail = CasPageTail(page);

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
			done += add_rows(page, table, rows + done, n - done, scalars, CasPageTail(page)->hi);
			nbmf_cas_change_finish(&change);
			UnlockReleaseBuffer(buffer);
		}
		else if (tail->lo < tail->hi)
			split_bucket(index, buffer, table, scalars, building);
		else
			done +=
				insert_into_chain(index, buffer, table, rows + done, n - done, scalars, building);
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
	uint64 halves[2];
	int scalar = 0;

	if (isnull[info->content])
		return false;
	key = DatumGetNbmfKey(FunctionCall1(index_getprocinfo(index, info->content + 1, CAS_PROC_KEY),
										values[info->content]));
	row->simhash = key->simhash;
	memcpy(halves, key->digest, sizeof(halves));
	row->digest[0] = pg_ntoh64(halves[0]);
	row->digest[1] = pg_ntoh64(halves[1]);
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

	while (n < CAS_TABLES && room)
	{
		Page page;

		buffers[n] = nbmf_cas_lock_bucket(index, n, nbmf_cas_route(n, nbmf_cas_row_key(row, n)),
										  BUFFER_LOCK_EXCLUSIVE);
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

/* What this backend has inserted last: see nbmf_cas_count_lookup */
Oid nbmf_cas_inserted_index = InvalidOid;
ItemPointerData nbmf_cas_inserted_tid;

/*
 * aminsert
 *
 * An insert is a lookup in the statistics, too.  Where there is an exclusion
 * constraint, its check is what is counted.
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
				found = nbmf_cas_insert_rows(index, table, &row, 1, false);
		}
		if (!index->rd_index->indisexclusion)
			nbmf_cas_stats_lookup(RelationGetRelid(index), found ? NBMF_CAS_EXACT : NBMF_CAS_MISS,
								  0);
		nbmf_cas_inserted_index = RelationGetRelid(index);
		nbmf_cas_inserted_tid = *tid;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return false;
}
