/*
 * nbmf_casstats.c
 *		Counters of lookups in nbmf_cas indexes, behind pg_stat_nbmf_cas.
 *
 * As in nbmf_stats.c: one slot for each index, in shared memory with nbmf in
 * shared_preload_libraries, otherwise, or when all slots are taken, in the
 * backend.  A backend gathers what it counts of one index, and adds it when it
 * turns to another index or its transaction ends.
 *
 * The lock protects the slots' owners.  A slot is freed when its index is gone,
 * which the view finds out; a backend that still knows the slot looks at its
 * owner before it adds.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "stats/stats.h"

#define SLOTS               1024
#define CACHED              8

#define CASSTATS_FILE       "pg_stat/nbmf_cas.stat"
#define CASSTATS_FILE_MAGIC 0x6e626d11 /* change when the layout changes */

typedef struct CasSlot
{
	Oid dbid; /* InvalidOid: free */
	Oid index;
	pg_atomic_uint64 reset_at; /* TimestampTz */
	pg_atomic_uint64 counter[NBMF_CAS_STATS_COUNTERS];
	pg_atomic_uint64 histogram[NBMF_HISTOGRAM_BUCKETS];
} CasSlot;

typedef struct CasShared
{
	LWLock *lock;
	CasSlot slot[SLOTS];
} CasShared;

/* What one slot is on disk */
typedef struct CasRecord
{
	Oid dbid;
	Oid index;
	TimestampTz reset_at;
	uint64 counter[NBMF_CAS_STATS_COUNTERS];
	uint64 histogram[NBMF_HISTOGRAM_BUCKETS];
} CasRecord;

/* Slots of this backend alone */
typedef struct LocalSlot
{
	struct LocalSlot *next;
	CasSlot slot;
} LocalSlot;

static CasShared *shared = NULL;
static LocalSlot *local_slots = NULL;

/* Slots that this backend has used lately */
static CasSlot *cached[CACHED];
static int next_cached = 0;

/* What has been counted and not yet added */
static Oid pending_index = InvalidOid;
static uint64 pending[NBMF_CAS_STATS_COUNTERS];

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

PG_FUNCTION_INFO_V1(nbmf_cas_stat);
PG_FUNCTION_INFO_V1(nbmf_cas_stat_reset);

static void
slot_clear(CasSlot *slot)
{
	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
		pg_atomic_write_u64(&slot->counter[i], 0);
	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
		pg_atomic_write_u64(&slot->histogram[i], 0);
	pg_atomic_write_u64(&slot->reset_at, (uint64) GetCurrentTimestamp());
}

static void
slot_init(CasSlot *slot)
{
	slot->dbid = slot->index = InvalidOid;
	pg_atomic_init_u64(&slot->reset_at, 0);
	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
		pg_atomic_init_u64(&slot->counter[i], 0);
	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
		pg_atomic_init_u64(&slot->histogram[i], 0);
}

static CasSlot *
shared_slot(Oid index)
{
	CasSlot *mine = NULL;
	CasSlot *unused = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS && mine == NULL; i++)
	{
		CasSlot *slot = &shared->slot[i];

		if (slot->dbid == MyDatabaseId && slot->index == index)
			mine = slot;
		else if (slot->dbid == InvalidOid && unused == NULL)
			unused = slot;
	}
	if (mine == NULL && unused != NULL)
	{
		mine = unused;
		slot_clear(mine);
		mine->index = index;
		mine->dbid = MyDatabaseId;
	}
	LWLockRelease(shared->lock);
	return mine;
}

/*
 * The slot of an index.  Callable at transaction end: reads no catalog.
 */
static CasSlot *
get_slot(Oid index)
{
	CasSlot *slot = NULL;

	for (int i = 0; i < CACHED; i++)
	{
		if (cached[i] != NULL && cached[i]->index == index && cached[i]->dbid == MyDatabaseId)
			return cached[i];
	}
	if (shared != NULL)
		slot = shared_slot(index);
	if (slot == NULL)
	{
		LocalSlot *local = local_slots;

		while (local != NULL && local->slot.index != index)
			local = local->next;
		if (local == NULL)
		{
			local =
				MemoryContextAllocExtended(TopMemoryContext, sizeof(LocalSlot), MCXT_ALLOC_NO_OOM);
			/* statistics are worth no error */
			if (local == NULL)
				return NULL;
			slot_init(&local->slot);
			slot_clear(&local->slot);
			local->slot.dbid = MyDatabaseId;
			local->slot.index = index;
			local->next = local_slots;
			local_slots = local;
		}
		slot = &local->slot;
	}
	cached[next_cached] = slot;
	next_cached = (next_cached + 1) % CACHED;
	return slot;
}

static void
flush_pending(void)
{
	CasSlot *slot;

	if (!OidIsValid(pending_index))
		return;
	slot = get_slot(pending_index);
	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
	{
		if (pending[i] > 0 && slot != NULL)
			pg_atomic_fetch_add_u64(&slot->counter[i], (int64) pending[i]);
		pending[i] = 0;
	}
	pending_index = InvalidOid;
}

static void
casstats_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			flush_pending();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

/*
 * Count one thing of an index.
 */
void
nbmf_cas_stats_count(Oid index, NbmfCasCounter counter, uint64 n)
{
	if (pending_index != index)
	{
		flush_pending();
		pending_index = index;
	}
	pending[counter] += n;
}

/*
 * Count a lookup: how it ended, and how long it took (0: not known).
 */
void
nbmf_cas_stats_lookup(Oid index, NbmfCasCounter outcome, uint64 ns)
{
	nbmf_cas_stats_count(index, outcome, 1);
	if (ns > 0)
	{
		CasSlot *slot = get_slot(index);

		pending[NBMF_CAS_TIMED]++;
		pending[NBMF_CAS_NANOSECONDS] += ns;
		if (slot != NULL)
			pg_atomic_fetch_add_u64(&slot->histogram[nbmf_histogram_bucket(ns)], 1);
	}
}

/*
 * The rows behind the view
 */

static void
put_slot(CasSlot *slot, ReturnSetInfo *rsinfo)
{
	uint64 counter[NBMF_CAS_STATS_COUNTERS];
	uint64 histogram[NBMF_HISTOGRAM_BUCKETS];
	Datum values[9];
	bool nulls[9] = {0};
	double p95;

	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
		counter[i] = pg_atomic_read_u64(&slot->counter[i]);
	values[0] = ObjectIdGetDatum(slot->index);
	values[1] = Int64GetDatum((int64) counter[NBMF_CAS_EXACT]);
	values[2] = Int64GetDatum((int64) counter[NBMF_CAS_NEAR]);
	values[3] = Int64GetDatum((int64) counter[NBMF_CAS_MISS]);
	values[4] = Int64GetDatum((int64) counter[NBMF_CAS_DIVERGENCE]);
	nulls[5] = counter[NBMF_CAS_TIMED] == 0;
	values[5] = nulls[5] ? (Datum) 0
						 : Float8GetDatum((double) counter[NBMF_CAS_NANOSECONDS] /
										  (double) counter[NBMF_CAS_TIMED] / 1e6);
	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
		histogram[i] = pg_atomic_read_u64(&slot->histogram[i]);
	p95 = nbmf_histogram_quantile_ms(histogram, 0.95);
	nulls[6] = p95 < 0;
	values[6] = nulls[6] ? (Datum) 0 : Float8GetDatum(p95);
	values[7] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->reset_at));
	values[8] = BoolGetDatum(shared != NULL && slot >= shared->slot && slot < shared->slot + SLOTS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
nbmf_cas_stat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	flush_pending();
	for (int i = 0; shared != NULL && i < SLOTS; i++)
	{
		CasSlot *slot = &shared->slot[i];
		Oid index = slot->index;
		bool gone;

		if (!OidIsValid(slot->dbid))
			continue;
		if (slot->dbid == MyDatabaseId)
			gone = !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(index));
		else
			gone = !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(slot->dbid));
		if (gone)
		{
			LWLockAcquire(shared->lock, LW_EXCLUSIVE);
			if (slot->index == index)
				slot->dbid = slot->index = InvalidOid;
			LWLockRelease(shared->lock);
		}
		else if (slot->dbid == MyDatabaseId)
			put_slot(slot, rsinfo);
	}
	for (LocalSlot *local = local_slots; local != NULL; local = local->next)
		put_slot(&local->slot, rsinfo);
	return (Datum) 0;
}

/*
 * Set the counters of one index, or of all in this database, to zero.
 */
Datum
nbmf_cas_stat_reset(PG_FUNCTION_ARGS)
{
	Oid index = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);

	memset(pending, 0, sizeof(pending));
	pending_index = InvalidOid;
	for (int i = 0; shared != NULL && i < SLOTS; i++)
	{
		CasSlot *slot = &shared->slot[i];

		if (slot->dbid == MyDatabaseId && (!OidIsValid(index) || slot->index == index))
			slot_clear(slot);
	}
	for (LocalSlot *local = local_slots; local != NULL; local = local->next)
	{
		if (!OidIsValid(index) || local->slot.index == index)
			slot_clear(&local->slot);
	}
	PG_RETURN_VOID();
}

/*
 * Keeping the counters over a shutdown
 */

static void
save_casstats(int code, Datum arg)
{
	FILE *file;
	uint32 magic = CASSTATS_FILE_MAGIC;
	bool ok;

	/* after a crash the counters may be anything */
	if (code != 0 || shared == NULL)
		return;
	file = AllocateFile(CASSTATS_FILE ".tmp", PG_BINARY_W);
	ok = file != NULL && fwrite(&magic, sizeof(magic), 1, file) == 1;
	for (int i = 0; i < SLOTS && ok; i++)
	{
		CasSlot *slot = &shared->slot[i];
		CasRecord record;
		uint32 hash;

		if (!OidIsValid(slot->dbid))
			continue;
		memset(&record, 0, sizeof(record));
		record.dbid = slot->dbid;
		record.index = slot->index;
		record.reset_at = (TimestampTz) pg_atomic_read_u64(&slot->reset_at);
		for (int c = 0; c < NBMF_CAS_STATS_COUNTERS; c++)
			record.counter[c] = pg_atomic_read_u64(&slot->counter[c]);
		for (int b = 0; b < NBMF_HISTOGRAM_BUCKETS; b++)
			record.histogram[b] = pg_atomic_read_u64(&slot->histogram[b]);
		hash = hash_bytes((unsigned char *) &record, sizeof(record));
		ok = fwrite(&record, sizeof(record), 1, file) == 1 &&
			 fwrite(&hash, sizeof(hash), 1, file) == 1;
	}
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (ok)
		(void) durable_rename(CASSTATS_FILE ".tmp", CASSTATS_FILE, LOG);
	else
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not write file \"%s\": %m", CASSTATS_FILE ".tmp")));
		unlink(CASSTATS_FILE ".tmp");
	}
}

static void
load_casstats(void)
{
	FILE *file = AllocateFile(CASSTATS_FILE, PG_BINARY_R);
	uint32 magic;
	bool ok;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(),
						  errmsg("could not read file \"%s\": %m", CASSTATS_FILE)));
		return;
	}
	ok = fread(&magic, sizeof(magic), 1, file) == 1 && magic == CASSTATS_FILE_MAGIC;
	for (int i = 0; ok && i < SLOTS; i++)
	{
		CasSlot *slot = &shared->slot[i];
		CasRecord record;
		uint32 hash;

		if (fread(&record, sizeof(record), 1, file) != 1)
		{
			ok = feof(file) != 0;
			break;
		}
		ok = fread(&hash, sizeof(hash), 1, file) == 1 &&
			 hash == hash_bytes((unsigned char *) &record, sizeof(record));
		if (!ok)
			break;
		slot->dbid = record.dbid;
		slot->index = record.index;
		pg_atomic_write_u64(&slot->reset_at, (uint64) record.reset_at);
		for (int c = 0; c < NBMF_CAS_STATS_COUNTERS; c++)
			pg_atomic_write_u64(&slot->counter[c], record.counter[c]);
		for (int b = 0; b < NBMF_HISTOGRAM_BUCKETS; b++)
			pg_atomic_write_u64(&slot->histogram[b], record.histogram[b]);
	}
	if (!ok)
		ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED),
					  errmsg("ignoring invalid data in file \"%s\"", CASSTATS_FILE)));
	FreeFile(file);

	/* a crash must not bring old counters back */
	unlink(CASSTATS_FILE);
}

static void
casstats_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(CasShared)));
	RequestNamedLWLockTranche("nbmf_cas_stats", 1);
}

static void
casstats_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* forget what a server that crashed and restarted had */
	shared = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("nbmf index statistics", sizeof(CasShared), &found);
	if (!found)
	{
		shared->lock = &GetNamedLWLockTranche("nbmf_cas_stats")->lock;
		for (int i = 0; i < SLOTS; i++)
			slot_init(&shared->slot[i]);
		load_casstats();
	}
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(save_casstats, (Datum) 0);
}

void
nbmf_cas_stats_init(void)
{
	RegisterXactCallback(casstats_xact_callback, NULL);

	if (process_shared_preload_libraries_in_progress)
	{
		prev_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = casstats_shmem_request;
		prev_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = casstats_shmem_startup;
	}
}
