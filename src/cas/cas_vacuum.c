/*
 * cas_vacuum.c
 *		Removing dead entries.
 *
 * VACUUM walks each table from bucket to bucket, in the order of values, and
 * not block by block: a split moves entries to a bucket further on, never back
 * to where VACUUM has been.  Dead entries are removed in place.  Buckets stay
 * even if they are empty; overflow pages that are empty are taken out of their
 * chain and freed.  Readers of a chain hold a page until they have the next,
 * so none is on its way to a page that is freed.
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"

#include "cas/cas.h"

typedef struct Vacuum
{
	Relation index;
	int table;
	Size payload_size;
	IndexBulkDeleteCallback callback;
	void *callback_state;
	double kept;
	double removed;
	int value;    /* of the last bucket; -1: of several */
	uint32 pages; /* that the value has */
} Vacuum;

/*
 * Remove the dead entries of a locked page.  Returns how many stay.
 */
static int
clean_page(Vacuum *vacuum, Buffer buffer)
{
	Page page = BufferGetPage(buffer);
	Size size = vacuum->payload_size;
	int n = nbmf_cas_count(page);
	bool dead[BLCKSZ / sizeof(uint64)];
	int removed = 0;
	int kept = 0;
	int sorted = 0;
	CasChange change;
	PageHeader header;

	for (int i = 0; i < n; i++)
	{
		ItemPointerData tid;

		memcpy(&tid, nbmf_cas_payload(page, i, size), sizeof(tid));
		dead[i] = vacuum->callback(&tid, vacuum->callback_state);
		removed += dead[i];
	}
	vacuum->kept += n - removed;
	vacuum->removed += removed;
	if (removed == 0)
		return n;

	nbmf_cas_change_begin(&change, vacuum->index, false);
	page = nbmf_cas_change_page(&change, buffer, false);
	header = (PageHeader) page;
	for (int i = 0; i < n; i++)
	{
		if (dead[i])
			continue;
		if (kept != i)
		{
			CasPageKeys(page)[kept] = CasPageKeys(page)[i];
			memcpy(nbmf_cas_payload(page, kept, size), nbmf_cas_payload(page, i, size), size);
		}
		kept++;
		sorted += i < CasPageHead(page)->sorted;
	}
	CasPageHead(page)->sorted = (uint16) sorted;
	header->pd_lower = CAS_CONTENTS + kept * sizeof(uint64);
	header->pd_upper = header->pd_special - kept * size;
	nbmf_cas_change_finish(&change);
	return kept;
}

/*
 * Take an empty overflow page out of its chain; both are locked, and the page
 * is released.
 */
static void
free_page(Vacuum *vacuum, Buffer before, Buffer buffer, IndexBulkDeleteResult *stats)
{
	BlockNumber block = BufferGetBlockNumber(buffer);
	BlockNumber next = CasPageHead(BufferGetPage(buffer))->next;
	CasChange change;

	nbmf_cas_change_begin(&change, vacuum->index, false);
	CasPageHead(nbmf_cas_change_page(&change, before, false))->next = next;
	nbmf_cas_page_init(nbmf_cas_change_page(&change, buffer, true), CAS_PAGE_FREE, 0);
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
	RecordFreeIndexPage(vacuum->index, block);
	stats->pages_newly_deleted++;
}

/* The root is told how many pages the last value had */
static void
note_value(const Vacuum *vacuum)
{
	if (vacuum->value >= 0)
		nbmf_cas_directory_heavy(vacuum->index, vacuum->table, (uint16) vacuum->value,
								 vacuum->pages, false, false);
}

/*
 * Begin to count the pages of a bucket's value, or go on; of chains, overflow
 * pages count, as for who makes them.
 */
static void
count_value(Vacuum *vacuum, const CasHead *head)
{
	bool single = head->lo >> 16 == head->hi >> 16;
	int value = single ? (int) (head->lo >> 16) : -1;

	if (value >= 0 && value == vacuum->value)
	{
		vacuum->pages++;
		return;
	}
	note_value(vacuum);
	vacuum->value = value;
	vacuum->pages = 0;
}

/*
 * Clean a bucket and its chain, and go to the next.
 */
static BlockNumber
clean_bucket(Vacuum *vacuum, BlockNumber block, uint64 *lo, IndexBulkDeleteResult *stats)
{
	Relation index = vacuum->index;
	Buffer buffer =
		nbmf_cas_read_typed(index, block, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_BUCKET, vacuum->table);
	Size size = vacuum->payload_size;
	BlockNumber right = CasPageHead(BufferGetPage(buffer))->right;
	BlockNumber hint = CasPageHead(BufferGetPage(buffer))->hint;
	BlockNumber room = InvalidBlockNumber;
	bool chained = CasPageHead(BufferGetPage(buffer))->next != InvalidBlockNumber;
	uint32 pages = 0;

	if (CasPageHead(BufferGetPage(buffer))->lo != *lo)
		nbmf_cas_corrupted(index, block, "The bucket does not begin where it should.");
	count_value(vacuum, CasPageHead(BufferGetPage(buffer)));
	*lo = (uint64) CasPageHead(BufferGetPage(buffer))->hi + 1;
	(void) clean_page(vacuum, buffer);
	for (;;)
	{
		BlockNumber next = CasPageHead(BufferGetPage(buffer))->next;
		Buffer next_buffer;

		if (next == InvalidBlockNumber)
			break;
		if (next == BufferGetBlockNumber(buffer) || next == block ||
			pages > RelationGetNumberOfBlocks(index))
			nbmf_cas_corrupted(index, next, "The chain does not end.");
		next_buffer = nbmf_cas_read_typed(index, next, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_OVERFLOW,
										  vacuum->table);

		/*
		 * The hint stays in the chain: who follows it holds the bucket, and would
		 * wait for a page that may be a bucket of another table by then, whose
		 * holder may wait for this one.  A later hint is a page with a new entry.
		 */
		if (clean_page(vacuum, next_buffer) == 0 && next != hint)
		{
			free_page(vacuum, buffer, next_buffer, stats);
			continue;
		}
		pages++;
		if (room == InvalidBlockNumber && nbmf_cas_has_room(BufferGetPage(next_buffer), size))
			room = next;
		UnlockReleaseBuffer(buffer);
		buffer = next_buffer;
		/* nobody else frees pages, so this one stays in the chain */
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		nbmf_vacuum_delay_point();
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	}
	UnlockReleaseBuffer(buffer);

	/* where inserts find room again, and how long the chain is now */
	if (chained)
	{
		CasHead *head;
		CasChange change;

		buffer = nbmf_cas_read_typed(index, block, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_BUCKET,
									 vacuum->table);
		nbmf_cas_change_begin(&change, index, false);
		head = CasPageHead(nbmf_cas_change_page(&change, buffer, false));
		/* without room, the last page is where the hint is */
		if (room != InvalidBlockNumber)
			head->hint = room;
		head->chain = pages;
		nbmf_cas_change_finish(&change);
		UnlockReleaseBuffer(buffer);
		vacuum->pages += pages;
	}
	return right;
}

/*
 * ambulkdelete
 */
IndexBulkDeleteResult *
nbmf_cas_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
					 IndexBulkDeleteCallback callback, void *state)
{
	Vacuum vacuum = {.index = info->index, .callback = callback, .callback_state = state};
	int scalars = nbmf_cas_info(info->index)->scalars;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	for (vacuum.table = 0; vacuum.table < CAS_TABLES; vacuum.table++)
	{
		BlockNumber block = CAS_FIRST_BLOCK(vacuum.table);
		uint64 lo = 0;

		vacuum.value = -1;
		vacuum.payload_size = nbmf_cas_payload_size(vacuum.table, scalars);
		vacuum.kept = vacuum.removed = 0;
		while (block != InvalidBlockNumber)
		{
			nbmf_vacuum_delay_point();
			block = clean_bucket(&vacuum, block, &lo, stats);
		}
		note_value(&vacuum);
	}

	/* each row is in each table; the last one is what is counted */
	stats->estimated_count = false;
	stats->num_index_tuples = vacuum.kept;
	stats->tuples_removed += vacuum.removed;
	return stats;
}

/*
 * amvacuumcleanup: find free pages, which the free space map may have lost
 * since a crash, and count entries where nothing was deleted.
 */
IndexBulkDeleteResult *
nbmf_cas_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	Relation index = info->index;
	BlockNumber blocks = RelationGetNumberOfBlocks(index);
	BlockNumber unused = 0;
	double entries = 0;

	if (info->analyze_only)
		return stats;
	if (stats == NULL)
	{
		stats = palloc0(sizeof(IndexBulkDeleteResult));
		stats->estimated_count = true;
	}
	for (BlockNumber block = CAS_META_BLOCK + 1; block < blocks; block++)
	{
		Buffer buffer;
		Page page;

		nbmf_vacuum_delay_point();
		buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, info->strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		if (!PageIsNew(page))
			nbmf_cas_check_page(index, buffer);
		if (PageIsNew(page) || CasPageHead(page)->type == CAS_PAGE_FREE)
		{
			RecordFreeIndexPage(index, block);
			unused++;
		}
		else if (CasPageHead(page)->table == CAS_TABLE_DIGEST &&
				 (CasPageHead(page)->type == CAS_PAGE_BUCKET ||
				  CasPageHead(page)->type == CAS_PAGE_OVERFLOW))
			entries += nbmf_cas_count(page);
		UnlockReleaseBuffer(buffer);
	}
	IndexFreeSpaceMapVacuum(index);

	stats->num_pages = blocks;
	stats->pages_free = stats->pages_deleted = unused;
	if (stats->estimated_count)
		stats->num_index_tuples = entries;
	return stats;
}
