/*
 * cas_build.c
 *		Building an nbmf_cas index.
 *
 * Rows are gathered up to maintenance_work_mem, from the table and from parallel
 * workers (cas_parallel.c).  The first batch is packed into full pages; later ones go
 * in bucket by bucket.  Nobody else sees the index while it is built, so its pages are
 * not logged before they are all there.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "cas/cas.h"

/* Share of a packed page that is used, so that the next few inserts do not split */
#define PACKED_PART 0.98

/* The leader takes what workers have sent after so many rows of its own */
#define TAKE_ROWS 64

/* Rows that there is room for at least */
#define ROWS_MIN 1024

StaticAssertDecl(CAS_CREW_MESSAGE / CAS_ROW_SIZE(0) <= ROWS_MIN, "a message fits");

/* What the progress view says */
#define PHASE_SCAN  2
#define PHASE_WRITE 3

typedef struct BuildState
{
	Relation index;
	CasInfo info;
	Size row_size;
	char *rows; /* room for `room` rows */
	int64 room;
	int64 n;
	int64 limit; /* rows that a batch may have */
	bool packed; /* the first batch has been written */
	double tuples;
	CasCrew *crew; /* NULL: no parallel workers */
	int untaken;   /* own rows since something was taken from them */
	CasRow **order;
	MemoryContext row_context;
} BuildState;

static CasRow *
build_row(BuildState *state, int64 i)
{
	return (CasRow *) (state->rows + i * state->row_size);
}

/*
 * Put the rows in the order of the values that route them in a table: a
 * counting sort.  Returns how many rows each value has, 65,536 counts.
 */
static void
sort_rows(BuildState *state, int table, int *count)
{
	int64 sum = 0;
	int64 *start = palloc(sizeof(int64) * CAS_VALUES);

	memset(count, 0, sizeof(int) * CAS_VALUES);
	for (int64 i = 0; i < state->n; i++)
		count[nbmf_cas_route(table, build_row(state, i)->simhash)]++;
	for (int value = 0; value < CAS_VALUES; value++)
	{
		start[value] = sum;
		sum += count[value];
	}
	for (int64 i = 0; i < state->n; i++)
	{
		CasRow *row = build_row(state, i);

		state->order[start[nbmf_cas_route(table, row->simhash)]++] = row;
	}
	pfree(start);
}

/*
 * Write the first batch of a table: buckets of consecutive values, as many as
 * a page takes.  What is too much for a page is inserted afterwards, which splits
 * the bucket or makes it a chain.
 */
static void
pack_table(BuildState *state, int table, const int *count)
{
	Relation index = state->index;
	int capacity = (int) ((BLCKSZ - CAS_CONTENTS) /
						  (sizeof(uint64) + nbmf_cas_payload_size(table, state->info.scalars)));
	int target = (int) (capacity * PACKED_PART);
	int64 done = 0;
	int lo = 0;
	Buffer buffer = nbmf_cas_read_typed(index, CAS_FIRST_BLOCK(table), BUFFER_LOCK_EXCLUSIVE,
										CAS_PAGE_BUCKET, table);

	while (lo < CAS_VALUES)
	{
		CasHead *head = CasPageHead(BufferGetPage(buffer));
		Page page = BufferGetPage(buffer);
		BlockNumber block = BufferGetBlockNumber(buffer);
		int64 rows = count[lo];
		int hi = lo;
		int64 here;
		Buffer next = InvalidBuffer;

		/* whole values, and as near to the target as they allow */
		while (hi + 1 < CAS_VALUES && rows + count[hi + 1] <= capacity &&
			   rows + count[hi + 1] / 2 <= target)
			rows += count[++hi];

		CHECK_FOR_INTERRUPTS();
		head->lo = nbmf_cas_first_place(lo);
		head->hi = nbmf_cas_last_place(hi);
		here = Min(rows, capacity);
		for (int64 i = 0; i < here; i++)
			nbmf_cas_page_add(page, table, state->order[done + i], state->info.scalars);
		head->sorted = (uint16) here;
		if (hi + 1 < CAS_VALUES)
		{
			next = nbmf_cas_new_buffer(index);
			nbmf_cas_page_init(BufferGetPage(next), CAS_PAGE_BUCKET, table);
			head->right = BufferGetBlockNumber(next);
		}
		MarkBufferDirty(buffer);
		UnlockReleaseBuffer(buffer);
		if (lo > 0)
			nbmf_cas_directory_add(index, table, nbmf_cas_first_place(lo), nbmf_cas_last_place(hi),
								   block, 0, true);

		/* one value has more rows than a page takes */
		if (here < rows)
		{
			(void) nbmf_cas_insert_rows(index, table, state->order + done + here,
										(int) (rows - here), true);
		}
		done += rows;
		lo = hi + 1;
		buffer = next;
	}
}

/*
 * Write the rows that have been gathered.
 */
static void
write_batch(BuildState *state)
{
	int *count;
	MemoryContext old;

	if (state->n == 0)
		return;
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_WRITE);
	old = MemoryContextSwitchTo(state->row_context);
	count = palloc(sizeof(int) * CAS_VALUES);
	state->order = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(CasRow *) * state->n);
	for (int table = 0; table < CAS_TABLES; table++)
	{
		sort_rows(state, table, count);
		if (!state->packed)
			pack_table(state, table, count);
		else
		{
			/* in parts, so that a cancel is served */
			for (int64 done = 0; done < state->n; done += 100000)
			{
				CHECK_FOR_INTERRUPTS();
				(void) nbmf_cas_insert_rows(state->index, table, state->order + done,
											(int) Min(state->n - done, 100000), true);
			}
		}
	}
	state->packed = true;
	state->tuples += state->n;
	state->n = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) state->tuples);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_SCAN);
}

/*
 * Make room for up to ROWS_MIN more rows.
 */
static void
make_room(BuildState *state, int64 n)
{
	if (state->n + n > state->limit)
		write_batch(state);
	if (state->n + n > state->room)
	{
		state->room = Min(state->room * 2, state->limit);
		state->rows = repalloc_huge(state->rows, state->room * state->row_size);
	}
}

/*
 * Take the rows that workers have sent, or wait for all that they will send.
 */
static void
take_rows(BuildState *state, bool wait)
{
	const char *rows;
	Size size;

	while ((rows = nbmf_cas_crew_receive(state->crew, wait, &size)) != NULL)
	{
		make_room(state, size / state->row_size);
		memcpy(build_row(state, state->n), rows, size);
		state->n += size / state->row_size;
	}
	state->untaken = 0;
}

static void
build_callback(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	BuildState *state = arg;
	MemoryContext old;
	bool indexed;

	make_room(state, 1);
	old = MemoryContextSwitchTo(state->row_context);
	indexed =
		nbmf_cas_make_row(index, &state->info, values, isnull, tid, build_row(state, state->n));
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
	state->n += indexed;
	if (state->crew != NULL && ++state->untaken >= TAKE_ROWS)
		take_rows(state, false);
}

/*
 * ambuild
 */
IndexBuildResult *
nbmf_cas_build(Relation heap, Relation index, IndexInfo *index_info)
{
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	BuildState state = {.index = index};
	int content;
	int scalars;
	double heap_tuples;
	TableScanDesc scan = NULL;

	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));

	/* a file that was truncated in place has other pages now */
	nbmf_cas_cache_forget(index);
	content = nbmf_cas_content_column(index, &scalars);
	for (BlockNumber block = 0; block < CAS_BLOCKS_MIN; block++)
	{
		Buffer buffer = ReadBuffer(index, P_NEW);

		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		if (BufferGetBlockNumber(buffer) != block)
			elog(ERROR, "unexpected block number of a new index page");
		nbmf_cas_init_block(index, BufferGetPage(buffer), block, scalars, content);
		MarkBufferDirty(buffer);
		UnlockReleaseBuffer(buffer);
	}

	state.info = *nbmf_cas_info(index);
	state.row_size = CAS_ROW_SIZE(scalars);
	/* the rows, and a pointer to each */
	state.limit = (int64) maintenance_work_mem * 1024 / (state.row_size + sizeof(CasRow *));
	state.limit = Max(Min(state.limit, INT_MAX / 2), ROWS_MIN);
	state.room = ROWS_MIN;
	state.rows = palloc(state.room * state.row_size);
	state.row_context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf_cas build", ALLOCSET_DEFAULT_SIZES);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_SCAN);
	state.crew = nbmf_cas_crew_begin(heap, index, index_info);
	if (state.crew != NULL)
		scan = nbmf_cas_crew_scan(state.crew, heap);
	heap_tuples =
		table_index_build_scan(heap, index, index_info, true, true, build_callback, &state, scan);
	if (state.crew != NULL)
	{
		take_rows(&state, true);
		heap_tuples += nbmf_cas_crew_end(state.crew, index_info);
	}
	write_batch(&state);

	if (RelationNeedsWAL(index))
		log_newpage_range(index, MAIN_FORKNUM, 0, RelationGetNumberOfBlocks(index), true);
	pfree(state.rows);
	MemoryContextDelete(state.row_context);

	result->heap_tuples = heap_tuples;
	result->index_tuples = state.tuples;
	return result;
}

/*
 * ambuildphasename
 */
char *
nbmf_cas_build_phase(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case PHASE_SCAN:
			return "scanning table";
		case PHASE_WRITE:
			return "writing pages";
		default:
			return NULL;
	}
}

/*
 * ambuildempty: the initialization fork of an unlogged index
 */
void
nbmf_cas_build_empty(Relation index)
{
	int scalars;
	int content = nbmf_cas_content_column(index, &scalars);

	for (BlockNumber block = 0; block < CAS_BLOCKS_MIN; block++)
	{
		Buffer buffer = ReadBufferExtended(index, INIT_FORKNUM, P_NEW, RBM_NORMAL, NULL);

		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		START_CRIT_SECTION();
		nbmf_cas_init_block(index, BufferGetPage(buffer), block, scalars, content);
		MarkBufferDirty(buffer);
		log_newpage_buffer(buffer, true);
		END_CRIT_SECTION();
		UnlockReleaseBuffer(buffer);
	}
}
