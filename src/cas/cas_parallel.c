/*
 * cas_parallel.c
 *		Parallel workers of a build of an nbmf_cas index.
 *
 * What takes long is to decode contents and to make their keys, so that is what
 * workers do: they and the leader share one scan of the table, and the workers send
 * their rows to the leader by a queue each, as those of a Gather do.  Only the leader
 * keeps rows and writes pages: maintenance_work_mem is for it alone, and the index is
 * the same as that of a serial build but for the order of equal values.
 *
 * All that is the backend's own (dictionaries, models, settings) a worker has or
 * gets as in any parallel query.  An error of a worker reaches the leader whenever
 * that serves interrupts; the leader's own ends the workers with the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_proc.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/shm_mq.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "cas/cas.h"

#define KEY_SHARED       UINT64CONST(1)
#define KEY_SCAN         UINT64CONST(2)
#define KEY_QUEUES       UINT64CONST(3)
#define KEY_QUERY        UINT64CONST(4)
#define KEY_BUFFER_USAGE UINT64CONST(5)
#define KEY_WAL_USAGE    UINT64CONST(6)

/* Room for what workers find while the leader writes, or is at a long content */
#define QUEUE_SIZE ((Size) 256 * 1024)

typedef struct Shared
{
	Oid heap;
	Oid index;
	bool concurrent;
	uint64 query_id;
	slock_t mutex; /* of what follows */
	double heap_tuples;
	bool broken_hot_chain;
} Shared;

struct CasCrew
{
	ParallelContext *context;
	Shared *shared;
	ParallelTableScanDesc scan;
	Snapshot snapshot;
	BufferUsage *buffer_usage;
	WalUsage *wal_usage;
	shm_mq_handle **queue; /* of each worker; NULL: it has sent everything */
	int next;              /* whose turn it is */
};

/* A worker */
typedef struct Worker
{
	CasInfo info;
	shm_mq_handle *queue;
	Size row_size;
	char *rows;
	int n;
	int room;
	MemoryContext row_context;
} Worker;

/*
 * The library as the access method's handler names it, which is how workers find it,
 * too.
 */
static char *
library_name(Relation index)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(index->rd_amhandler));
	bool isnull;
	Datum name;
	char *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", index->rd_amhandler);
	name = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &isnull);
	if (isnull)
		elog(ERROR, "function %u has no library", index->rd_amhandler);
	result = TextDatumGetCString(name);
	ReleaseSysCache(tuple);
	return result;
}

static void
end_context(ParallelContext *context, Snapshot snapshot)
{
	if (IsMVCCSnapshot(snapshot))
		UnregisterSnapshot(snapshot);
	DestroyParallelContext(context);
	ExitParallelMode();
}

/*
 * Launch the workers that a build is worth; NULL if there are none.  Everything
 * until nbmf_cas_crew_end is done in parallel mode.
 */
CasCrew *
nbmf_cas_crew_begin(Relation heap, Relation index, const IndexInfo *index_info)
{
	int workers = nbmf_build_workers(heap, index, index_info);
	ParallelContext *context;
	CasCrew *crew;
	Snapshot snapshot;
	Size scan_size;
	Size query_size = debug_query_string != NULL ? strlen(debug_query_string) + 1 : 0;
	Shared *shared;
	char *queues;

	if (workers <= 0)
		return NULL;

	EnterParallelMode();
	context = CreateParallelContext(library_name(index), "nbmf_cas_build_worker", workers);
	snapshot = index_info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;
	scan_size = table_parallelscan_estimate(heap, snapshot);
	shm_toc_estimate_chunk(&context->estimator, sizeof(Shared));
	shm_toc_estimate_chunk(&context->estimator, scan_size);
	shm_toc_estimate_chunk(&context->estimator, mul_size(QUEUE_SIZE, context->nworkers));
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(BufferUsage), context->nworkers));
	shm_toc_estimate_chunk(&context->estimator, mul_size(sizeof(WalUsage), context->nworkers));
	shm_toc_estimate_keys(&context->estimator, 5);
	if (query_size > 0)
	{
		shm_toc_estimate_chunk(&context->estimator, query_size);
		shm_toc_estimate_keys(&context->estimator, 1);
	}
	InitializeParallelDSM(context);
	if (context->seg == NULL)
	{
		end_context(context, snapshot);
		return NULL;
	}

	shared = shm_toc_allocate(context->toc, sizeof(Shared));
	shared->heap = RelationGetRelid(heap);
	shared->index = RelationGetRelid(index);
	shared->concurrent = index_info->ii_Concurrent;
	shared->query_id = (uint64) pgstat_get_my_query_id();
	SpinLockInit(&shared->mutex);
	shared->heap_tuples = 0;
	shared->broken_hot_chain = false;
	shm_toc_insert(context->toc, KEY_SHARED, shared);

	crew = palloc0(sizeof(CasCrew));
	crew->context = context;
	crew->shared = shared;
	crew->snapshot = snapshot;
	crew->scan = shm_toc_allocate(context->toc, scan_size);
	table_parallelscan_initialize(heap, crew->scan, snapshot);
	shm_toc_insert(context->toc, KEY_SCAN, crew->scan);

	queues = shm_toc_allocate(context->toc, QUEUE_SIZE * context->nworkers);
	for (int i = 0; i < context->nworkers; i++)
		shm_mq_set_receiver(shm_mq_create(queues + i * QUEUE_SIZE, QUEUE_SIZE), MyProc);
	shm_toc_insert(context->toc, KEY_QUEUES, queues);

	crew->buffer_usage =
		shm_toc_allocate(context->toc, mul_size(sizeof(BufferUsage), context->nworkers));
	shm_toc_insert(context->toc, KEY_BUFFER_USAGE, crew->buffer_usage);
	crew->wal_usage = shm_toc_allocate(context->toc, mul_size(sizeof(WalUsage), context->nworkers));
	shm_toc_insert(context->toc, KEY_WAL_USAGE, crew->wal_usage);
	if (query_size > 0)
	{
		char *query = shm_toc_allocate(context->toc, query_size);

		memcpy(query, debug_query_string, query_size);
		shm_toc_insert(context->toc, KEY_QUERY, query);
	}

	LaunchParallelWorkers(context);
	ereport(DEBUG1,
			(errmsg_internal("index \"%s\" is built with %d of %d parallel workers",
							 RelationGetRelationName(index), context->nworkers_launched, workers)));
	if (context->nworkers_launched == 0)
	{
		end_context(context, snapshot);
		return NULL;
	}
	crew->queue = palloc(sizeof(shm_mq_handle *) * context->nworkers_launched);
	for (int i = 0; i < context->nworkers_launched; i++)
		crew->queue[i] = shm_mq_attach((shm_mq *) (queues + i * QUEUE_SIZE), context->seg,
									   context->worker[i].bgwhandle);
	return crew;
}

/* The leader's part of the scan */
TableScanDesc
nbmf_cas_crew_scan(CasCrew *crew, Relation heap)
{
	return table_beginscan_parallel(heap, crew->scan);
}

/*
 * Rows that some worker has sent, valid until the next call.  NULL: there are none,
 * or, if waiting, there will be none.
 */
const char *
nbmf_cas_crew_receive(CasCrew *crew, bool wait, Size *size)
{
	int workers = crew->context->nworkers_launched;

	for (;;)
	{
		int working = 0;

		for (int i = 0; i < workers; i++)
		{
			shm_mq_handle **queue = &crew->queue[crew->next];
			void *rows;

			crew->next = (crew->next + 1) % workers;
			if (*queue == NULL)
				continue;
			switch (shm_mq_receive(*queue, size, &rows, true))
			{
				case SHM_MQ_SUCCESS:
					return rows;
				case SHM_MQ_WOULD_BLOCK:
					working++;
					break;
				case SHM_MQ_DETACHED:
					/* that it has not failed is seen at the end */
					shm_mq_detach(*queue);
					*queue = NULL;
					break;
			}
		}
		if (working == 0 || !wait)
			return NULL;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0,
						 WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Wait for the workers' end.  Raises an error if one of them failed.  Returns how
 * many rows of the table they have seen.
 */
double
nbmf_cas_crew_end(CasCrew *crew, IndexInfo *index_info)
{
	double heap_tuples;

	WaitForParallelWorkersToFinish(crew->context);
	for (int i = 0; i < crew->context->nworkers_launched; i++)
		InstrAccumParallelQuery(&crew->buffer_usage[i], &crew->wal_usage[i]);
	heap_tuples = crew->shared->heap_tuples;
	if (crew->shared->broken_hot_chain)
		index_info->ii_BrokenHotChain = true;
	end_context(crew->context, crew->snapshot);
	return heap_tuples;
}

static void
send_rows(Worker *worker)
{
	if (worker->n == 0)
		return;
	if (shm_mq_send(worker->queue, worker->n * worker->row_size, worker->rows, false, false) !=
		SHM_MQ_SUCCESS)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("could not send tuple to shared-memory queue")));
	worker->n = 0;
}

static void
worker_callback(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	Worker *worker = arg;
	MemoryContext old = MemoryContextSwitchTo(worker->row_context);

	worker->n += nbmf_cas_make_row(index, &worker->info, values, isnull, tid,
								   (CasRow *) (worker->rows + worker->n * worker->row_size));
	MemoryContextSwitchTo(old);
	MemoryContextReset(worker->row_context);
	if (worker->n == worker->room)
		send_rows(worker);
}

/*
 * What a worker does.
 */
void
nbmf_cas_build_worker(dsm_segment *segment, shm_toc *toc)
{
	Shared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	ParallelTableScanDesc scan = shm_toc_lookup(toc, KEY_SCAN, false);
	char *queues = shm_toc_lookup(toc, KEY_QUEUES, false);
	BufferUsage *buffer_usage = shm_toc_lookup(toc, KEY_BUFFER_USAGE, false);
	WalUsage *wal_usage = shm_toc_lookup(toc, KEY_WAL_USAGE, false);
	shm_mq *queue = (shm_mq *) (queues + ParallelWorkerNumber * QUEUE_SIZE);
	/* the locks that the leader has */
	LOCKMODE heap_lock = shared->concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE index_lock = shared->concurrent ? RowExclusiveLock : AccessExclusiveLock;
	Worker worker = {.n = 0};
	Relation heap;
	Relation index;
	IndexInfo *index_info;
	double heap_tuples;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY, true);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	pgstat_report_query_id(shared->query_id, false);

	shm_mq_set_sender(queue, MyProc);
	worker.queue = shm_mq_attach(queue, segment, NULL);
	heap = table_open(shared->heap, heap_lock);
	index = index_open(shared->index, index_lock);
	index_info = BuildIndexInfo(index);
	index_info->ii_Concurrent = shared->concurrent;
	worker.info = *nbmf_cas_info(index);
	worker.row_size = CAS_ROW_SIZE(worker.info.scalars);
	worker.room = (int) (CAS_CREW_MESSAGE / worker.row_size);
	worker.rows = palloc0(worker.room * worker.row_size);
	worker.row_context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf_cas build", ALLOCSET_DEFAULT_SIZES);

	InstrStartParallelQuery();
	heap_tuples = table_index_build_scan(heap, index, index_info, true, false, worker_callback,
										 &worker, table_beginscan_parallel(heap, scan));
	send_rows(&worker);
	InstrEndParallelQuery(&buffer_usage[ParallelWorkerNumber], &wal_usage[ParallelWorkerNumber]);

	SpinLockAcquire(&shared->mutex);
	shared->heap_tuples += heap_tuples;
	shared->broken_hot_chain |= index_info->ii_BrokenHotChain;
	SpinLockRelease(&shared->mutex);
	shm_mq_detach(worker.queue);
	index_close(index, index_lock);
	table_close(heap, heap_lock);
}
