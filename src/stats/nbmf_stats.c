/*
 * nbmf_stats.c
 *		Counters and latency histograms, where they live, and the functions
 *		behind pg_stat_nbmf.
 *
 * With nbmf in shared_preload_libraries there is one slot of counters for each
 * database in shared memory.  A backend adds what it has counted at the end of
 * each transaction, with atomic additions and no lock; nbmf.stat keeps the
 * counters over a clean shutdown.  Without preloading, or when all slots are
 * taken, a backend counts for itself in a slot of its own, and the view says
 * preloaded = false.
 *
 * The lock protects the slots' owners (dbid).  A backend finds its slot once:
 * a slot is taken from another database only when that database is gone, and
 * a database with a backend in it cannot go.
 *
 * Latencies go to the histogram at once: they are sampled, so rarely.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "stats/stats.h"

#define SLOTS            128

#define STATS_FILE       "pg_stat/nbmf.stat"
#define STATS_FILE_MAGIC 0x6e626d02 /* change when the layout changes */

/* Numbers of a slot, by codec, operation and, last, counter or bucket */
#define SLOT_COUNTERS   (NBMF_STATS_CODECS * NBMF_STATS_OPS * NBMF_STATS_COUNTERS)
#define SLOT_HISTOGRAMS (NBMF_STATS_CODECS * NBMF_STATS_OPS * NBMF_HISTOGRAM_BUCKETS)

typedef struct StatsSlot
{
	Oid dbid;                  /* InvalidOid: free */
	pg_atomic_uint64 reset_at; /* TimestampTz */
	pg_atomic_uint64 counter[SLOT_COUNTERS];
	pg_atomic_uint64 histogram[SLOT_HISTOGRAMS];
} StatsSlot;

typedef struct StatsShared
{
	LWLock *lock;
	StatsSlot slot[SLOTS];
} StatsShared;

/* What one slot is on disk */
typedef struct StatsRecord
{
	Oid dbid;
	TimestampTz reset_at;
	uint64 counter[SLOT_COUNTERS];
	uint64 histogram[SLOT_HISTOGRAMS];
} StatsRecord;

int nbmf_latency_sample = 16;
int nbmf_stats_countdown[NBMF_STATS_OPS];
uint64 nbmf_stats_pending[NBMF_STATS_CODECS][NBMF_STATS_OPS][NBMF_STATS_COUNTERS];
bool nbmf_stats_dirty = false;

static StatsShared *shared = NULL;
static StatsSlot *my_slot = NULL;
static StatsSlot local_slot;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

PG_FUNCTION_INFO_V1(nbmf_stat);
PG_FUNCTION_INFO_V1(nbmf_stat_codec);
PG_FUNCTION_INFO_V1(nbmf_stat_reset);

/*
 * Slots
 */

static pg_atomic_uint64 *
counters(StatsSlot *slot, NbmfStatsCodec codec, NbmfStatsOp op)
{
	return &slot->counter[(codec * NBMF_STATS_OPS + op) * NBMF_STATS_COUNTERS];
}

static pg_atomic_uint64 *
histogram(StatsSlot *slot, NbmfStatsCodec codec, NbmfStatsOp op)
{
	return &slot->histogram[(codec * NBMF_STATS_OPS + op) * NBMF_HISTOGRAM_BUCKETS];
}

static void
slot_clear(StatsSlot *slot)
{
	for (int i = 0; i < SLOT_COUNTERS; i++)
		pg_atomic_write_u64(&slot->counter[i], 0);
	for (int i = 0; i < SLOT_HISTOGRAMS; i++)
		pg_atomic_write_u64(&slot->histogram[i], 0);
	pg_atomic_write_u64(&slot->reset_at, (uint64) GetCurrentTimestamp());
}

static void
slot_init(StatsSlot *slot)
{
	slot->dbid = InvalidOid;
	pg_atomic_init_u64(&slot->reset_at, 0);
	for (int i = 0; i < SLOT_COUNTERS; i++)
		pg_atomic_init_u64(&slot->counter[i], 0);
	for (int i = 0; i < SLOT_HISTOGRAMS; i++)
		pg_atomic_init_u64(&slot->histogram[i], 0);
}

/*
 * Find or take this database's slot; NULL if there is none to be had.
 */
static StatsSlot *
shared_slot(void)
{
	StatsSlot *mine = NULL;
	StatsSlot *unused = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS && mine == NULL; i++)
	{
		StatsSlot *slot = &shared->slot[i];

		if (slot->dbid == MyDatabaseId)
			mine = slot;
		else if (slot->dbid == InvalidOid && unused == NULL)
			unused = slot;
	}
	if (mine == NULL && unused != NULL)
	{
		mine = unused;
		slot_clear(mine);
		mine->dbid = MyDatabaseId;
	}
	LWLockRelease(shared->lock);
	return mine;
}

/*
 * Free the slots of databases that are gone.  Needs a transaction.
 */
static void
free_dead_slots(void)
{
	for (int i = 0; i < SLOTS; i++)
	{
		Oid dbid = shared->slot[i].dbid;

		if (!OidIsValid(dbid) || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(dbid)))
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		if (shared->slot[i].dbid == dbid)
			shared->slot[i].dbid = InvalidOid;
		LWLockRelease(shared->lock);
	}
}

/*
 * The slot that this backend counts in.  Callable at transaction end, so it
 * reads no catalog; nbmf_stat() frees dead slots when it sees none left.
 */
static StatsSlot *
get_slot(void)
{
	if (my_slot == NULL)
	{
		if (shared != NULL && OidIsValid(MyDatabaseId))
			my_slot = shared_slot();
		if (my_slot == NULL)
		{
			static bool ready = false;

			if (!ready)
			{
				slot_init(&local_slot);
				slot_clear(&local_slot);
				ready = true;
			}
			my_slot = &local_slot;
		}
	}
	return my_slot;
}

/*
 * Counting
 */

static void
flush_pending(void)
{
	StatsSlot *slot = get_slot();

	for (int codec = 0; codec < NBMF_STATS_CODECS; codec++)
		for (int op = 0; op < NBMF_STATS_OPS; op++)
			for (int i = 0; i < NBMF_STATS_COUNTERS; i++)
			{
				uint64 add = nbmf_stats_pending[codec][op][i];

				if (add > 0)
					pg_atomic_fetch_add_u64(&counters(slot, codec, op)[i], (int64) add);
			}
	memset(nbmf_stats_pending, 0, sizeof(nbmf_stats_pending));
	nbmf_stats_dirty = false;
}

static void
stats_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			if (nbmf_stats_dirty)
				flush_pending();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

int
nbmf_histogram_bucket(uint64 ns)
{
	int bits;
	int bucket;

	if (ns < (UINT64CONST(1) << NBMF_HISTOGRAM_MIN_BITS))
		return 0;
	bits = pg_leftmost_one_pos64(ns);
	bucket = (bits - NBMF_HISTOGRAM_MIN_BITS) * 4 + (int) ((ns >> (bits - 2)) & 3);
	return Min(bucket, NBMF_HISTOGRAM_BUCKETS - 1);
}

static double
bucket_start(int bucket)
{
	return (double) (UINT64CONST(4) + bucket % 4) *
		   (double) (UINT64CONST(1) << (bucket / 4 + NBMF_HISTOGRAM_MIN_BITS - 2));
}

/*
 * Record how long a timed operation took.
 */
void
nbmf_stats_add_latency(NbmfStatsCodec codec, NbmfStatsOp op, const NbmfStatsTimer *timer)
{
	instr_time now;
	uint64 ns;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, timer->start);
	ns = (uint64) (INSTR_TIME_GET_DOUBLE(now) * 1e9);

	nbmf_stats_pending[codec][op][NBMF_STATS_TIMED]++;
	nbmf_stats_pending[codec][op][NBMF_STATS_NANOSECONDS] += ns;
	pg_atomic_fetch_add_u64(&histogram(get_slot(), codec, op)[nbmf_histogram_bucket(ns)], 1);
}

/*
 * Views
 */

/* The numbers of one codec, or of all together */
typedef struct Summary
{
	uint64 counter[NBMF_STATS_OPS][NBMF_STATS_COUNTERS];
	uint64 histogram[NBMF_STATS_OPS][NBMF_HISTOGRAM_BUCKETS];
} Summary;

static void
add_to_summary(Summary *summary, StatsSlot *slot, NbmfStatsCodec codec)
{
	for (int op = 0; op < NBMF_STATS_OPS; op++)
	{
		for (int c = 0; c < NBMF_STATS_COUNTERS; c++)
			summary->counter[op][c] += pg_atomic_read_u64(&counters(slot, codec, op)[c]);
		for (int b = 0; b < NBMF_HISTOGRAM_BUCKETS; b++)
			summary->histogram[op][b] += pg_atomic_read_u64(&histogram(slot, codec, op)[b]);
	}
}

/*
 * The q-quantile of a histogram in milliseconds, on a straight line within
 * its bucket; a negative number if the histogram is empty.
 */
double
nbmf_histogram_quantile_ms(const uint64 *count, double q)
{
	double total = 0;
	double seen = 0;

	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
		total += (double) count[i];
	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
	{
		if (count[i] > 0 && seen + (double) count[i] >= q * total)
		{
			double part = (q * total - seen) / (double) count[i];
			double start = bucket_start(i);

			return (start + part * (bucket_start(i + 1) - start)) / 1e6;
		}
		seen += (double) count[i];
	}
	return -1;
}

static void
set_float(Datum *values, bool *nulls, int i, bool known, double value)
{
	nulls[i] = !known;
	values[i] = known ? Float8GetDatum(value) : (Datum) 0;
}

/* Columns that both views have, in this order */
#define SUMMARY_COLUMNS 14

static void
set_summary(Datum *values, bool *nulls, const Summary *summary)
{
	const uint64 *encoded = summary->counter[NBMF_STATS_ENCODE];
	const uint64 *decoded = summary->counter[NBMF_STATS_DECODE];
	double errors = (double) (encoded[NBMF_STATS_ERRORS] + decoded[NBMF_STATS_ERRORS]);
	double done = (double) (encoded[NBMF_STATS_CALLS] + decoded[NBMF_STATS_CALLS]) + errors;
	double timed = (double) (encoded[NBMF_STATS_TIMED] + decoded[NBMF_STATS_TIMED]);
	int i = 0;

	values[i++] = Int64GetDatum((int64) encoded[NBMF_STATS_CALLS]);
	values[i++] = Int64GetDatum((int64) decoded[NBMF_STATS_CALLS]);
	values[i++] = Int64GetDatum((int64) encoded[NBMF_STATS_RAW_BYTES]);
	values[i++] = Int64GetDatum((int64) encoded[NBMF_STATS_STORED_BYTES]);
	set_float(values, nulls, i++, encoded[NBMF_STATS_STORED_BYTES] > 0,
			  (double) encoded[NBMF_STATS_RAW_BYTES] / (double) encoded[NBMF_STATS_STORED_BYTES]);
	values[i++] = Int64GetDatum((int64) decoded[NBMF_STATS_RAW_BYTES]);
	set_float(values, nulls, i++, timed > 0,
			  (double) (encoded[NBMF_STATS_NANOSECONDS] + decoded[NBMF_STATS_NANOSECONDS]) / timed /
				  1e6);
	for (int op = 0; op < NBMF_STATS_OPS; op++)
	{
		double p50 = nbmf_histogram_quantile_ms(summary->histogram[op], 0.50);
		double p95 = nbmf_histogram_quantile_ms(summary->histogram[op], 0.95);

		set_float(values, nulls, i++, p50 >= 0, p50);
		set_float(values, nulls, i++, p95 >= 0, p95);
	}
	values[i++] = Int64GetDatum((int64) encoded[NBMF_STATS_ERRORS]);
	values[i++] = Int64GetDatum((int64) decoded[NBMF_STATS_ERRORS]);
	set_float(values, nulls, i++, done > 0, errors / done);
	Assert(i == SUMMARY_COLUMNS);
}

/*
 * The slot to be looked at, with what this backend has counted.
 */
static StatsSlot *
settled_slot(void)
{
	if (shared != NULL && get_slot() == &local_slot)
	{
		free_dead_slots();
		my_slot = NULL;
	}
	if (nbmf_stats_dirty)
		flush_pending();
	return get_slot();
}

/*
 * One row: the counters of this database.
 */
Datum
nbmf_stat(PG_FUNCTION_ARGS)
{
	TupleDesc tupdesc;
	Datum values[SUMMARY_COLUMNS + 2];
	bool nulls[SUMMARY_COLUMNS + 2] = {0};
	Summary summary = {0};
	StatsSlot *slot = settled_slot();

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	for (int codec = 0; codec < NBMF_STATS_CODECS; codec++)
		add_to_summary(&summary, slot, codec);
	set_summary(values, nulls, &summary);
	values[SUMMARY_COLUMNS] =
		TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->reset_at));
	values[SUMMARY_COLUMNS + 1] = BoolGetDatum(slot != &local_slot);
	Assert(tupdesc->natts == SUMMARY_COLUMNS + 2);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

/*
 * The same, one row for each codec.
 */
Datum
nbmf_stat_codec(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"zstd", "dictionary", "neural"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StatsSlot *slot = settled_slot();

	StaticAssertStmt(lengthof(names) == NBMF_STATS_CODECS, "every codec has a name");
	InitMaterializedSRF(fcinfo, 0);
	for (int codec = 0; codec < NBMF_STATS_CODECS; codec++)
	{
		Datum values[SUMMARY_COLUMNS + 1];
		bool nulls[SUMMARY_COLUMNS + 1] = {0};
		Summary summary = {0};

		add_to_summary(&summary, slot, codec);
		values[0] = CStringGetTextDatum(names[codec]);
		set_summary(values + 1, nulls + 1, &summary);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * Set the counters of this database to zero.
 */
Datum
nbmf_stat_reset(PG_FUNCTION_ARGS)
{
	memset(nbmf_stats_pending, 0, sizeof(nbmf_stats_pending));
	nbmf_stats_dirty = false;
	slot_clear(get_slot());
	PG_RETURN_VOID();
}

/*
 * Keeping the counters over a shutdown
 */

static void
save_stats(int code, Datum arg)
{
	FILE *file;
	uint32 magic = STATS_FILE_MAGIC;
	uint32 records = 0;
	bool ok;

	/* after a crash the counters may be anything */
	if (code != 0 || shared == NULL)
		return;
	file = AllocateFile(STATS_FILE ".tmp", PG_BINARY_W);
	if (file == NULL)
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not write file \"%s\": %m", STATS_FILE ".tmp")));
		return;
	}
	for (int i = 0; i < SLOTS; i++)
		records += OidIsValid(shared->slot[i].dbid);

	ok = fwrite(&magic, sizeof(magic), 1, file) == 1 &&
		 fwrite(&records, sizeof(records), 1, file) == 1;
	for (int i = 0; i < SLOTS && ok; i++)
	{
		StatsSlot *slot = &shared->slot[i];
		StatsRecord record;
		uint32 hash;

		if (!OidIsValid(slot->dbid))
			continue;
		memset(&record, 0, sizeof(record));
		record.dbid = slot->dbid;
		record.reset_at = (TimestampTz) pg_atomic_read_u64(&slot->reset_at);
		for (int c = 0; c < SLOT_COUNTERS; c++)
			record.counter[c] = pg_atomic_read_u64(&slot->counter[c]);
		for (int b = 0; b < SLOT_HISTOGRAMS; b++)
			record.histogram[b] = pg_atomic_read_u64(&slot->histogram[b]);
		hash = hash_bytes((unsigned char *) &record, sizeof(record));
		ok = fwrite(&record, sizeof(record), 1, file) == 1 &&
			 fwrite(&hash, sizeof(hash), 1, file) == 1;
	}
	if (FreeFile(file) != 0)
		ok = false;
	if (ok)
		(void) durable_rename(STATS_FILE ".tmp", STATS_FILE, LOG);
	else
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not write file \"%s\": %m", STATS_FILE ".tmp")));
		unlink(STATS_FILE ".tmp");
	}
}

/*
 * Read what save_stats wrote.  Statistics are worth no refusal to start: a
 * file that is not whole is reported and what follows in it is left out.
 */
static void
load_stats(void)
{
	FILE *file = AllocateFile(STATS_FILE, PG_BINARY_R);
	uint32 magic;
	uint32 records;
	bool ok;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(),
						  errmsg("could not read file \"%s\": %m", STATS_FILE)));
		return;
	}
	ok = fread(&magic, sizeof(magic), 1, file) == 1 && magic == STATS_FILE_MAGIC &&
		 fread(&records, sizeof(records), 1, file) == 1 && records <= SLOTS;
	for (uint32 i = 0; ok && i < records; i++)
	{
		StatsSlot *slot = &shared->slot[i];
		StatsRecord record;
		uint32 hash;

		ok = fread(&record, sizeof(record), 1, file) == 1 &&
			 fread(&hash, sizeof(hash), 1, file) == 1 &&
			 hash == hash_bytes((unsigned char *) &record, sizeof(record));
		if (!ok)
			break;
		slot->dbid = record.dbid;
		pg_atomic_write_u64(&slot->reset_at, (uint64) record.reset_at);
		for (int c = 0; c < SLOT_COUNTERS; c++)
			pg_atomic_write_u64(&slot->counter[c], record.counter[c]);
		for (int b = 0; b < SLOT_HISTOGRAMS; b++)
			pg_atomic_write_u64(&slot->histogram[b], record.histogram[b]);
	}
	if (!ok)
		ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED),
					  errmsg("ignoring invalid data in file \"%s\"", STATS_FILE)));
	FreeFile(file);

	/* a crash must not bring old counters back */
	unlink(STATS_FILE);
}

/*
 * Start-up
 */

static void
stats_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(StatsShared)));
	RequestNamedLWLockTranche("nbmf_stats", 1);
}

static void
stats_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* forget what a server that crashed and restarted had */
	shared = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("nbmf statistics", sizeof(StatsShared), &found);
	if (!found)
	{
		shared->lock = &GetNamedLWLockTranche("nbmf_stats")->lock;
		for (int i = 0; i < SLOTS; i++)
			slot_init(&shared->slot[i]);
		load_stats();
	}
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(save_stats, (Datum) 0);
}

/* A lower setting takes effect at once, not when the old interval is over */
static void
latency_sample_assign(int newval, void *extra)
{
	memset(nbmf_stats_countdown, 0, sizeof(nbmf_stats_countdown));
}

void
nbmf_stats_init(void)
{
	DefineCustomIntVariable("nbmf.latency_sample", "Times one encoding or decoding in this many.",
							"0 times none, 1 all of them.", &nbmf_latency_sample, 16, 0, 1000000,
							PGC_USERSET, 0, NULL, latency_sample_assign, NULL);

	RegisterXactCallback(stats_xact_callback, NULL);

	if (process_shared_preload_libraries_in_progress)
	{
		prev_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = stats_shmem_request;
		prev_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = stats_shmem_startup;
	}
}
