/*
 * nbmf_stats.c
 *		Counters and latency histograms, and the functions behind pg_stat_nbmf.
 *
 * With nbmf in shared_preload_libraries there is one slot of counters for each
 * database in shared memory.  A backend adds what it has counted at the end of
 * each transaction, with atomic additions and no lock; nbmf.stat keeps the
 * counters over a clean shutdown.  Without preloading, or when all slots are
 * taken, a backend counts for itself in a slot of its own, and the view says
 * preloaded = false.
 *
 * A backend finds its slot once: a slot is taken from another database only when
 * that database is gone, and a database with a backend in it cannot go.
 *
 * Latencies go to the histogram at once: they are sampled, so rarely.
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "stats/stats.h"
#include "stats/stats_slots.h"

/* Numbers of a slot: counters by codec and operation, then histograms likewise */
#define SLOT_COUNTERS   (NBMF_STATS_CODECS * NBMF_STATS_OPS * NBMF_STATS_COUNTERS)
#define SLOT_HISTOGRAMS (NBMF_STATS_CODECS * NBMF_STATS_OPS * NBMF_HISTOGRAM_BUCKETS)
#define SLOT_NUMBERS    (SLOT_COUNTERS + SLOT_HISTOGRAMS)

static void flush_pending(void);

static NbmfSlotArea area = {.name = "nbmf statistics",
							.tranche = "nbmf_stats",
							.file = "pg_stat/nbmf.stat",
							.magic = 0x6e626d03,
							.slots = 128,
							.numbers = SLOT_NUMBERS,
							.flush = flush_pending};

StaticAssertDecl(SLOT_NUMBERS <= NBMF_SLOT_NUMBERS_MAX, "a slot's numbers fit");

int nbmf_latency_sample = 16;
int nbmf_stats_countdown[NBMF_STATS_OPS];
uint64 nbmf_stats_pending[NBMF_STATS_CODECS][NBMF_STATS_OPS][NBMF_STATS_COUNTERS];
bool nbmf_stats_dirty = false;

static NbmfSlot *my_slot = NULL;

/* Where a backend counts that has none in shared memory */
static union
{
	NbmfSlot slot;
	char room[NBMF_SLOT_SIZE(SLOT_NUMBERS)];
} local;

PG_FUNCTION_INFO_V1(nbmf_stat);
PG_FUNCTION_INFO_V1(nbmf_stat_codec);
PG_FUNCTION_INFO_V1(nbmf_stat_reset);

/*
 * Slots
 */

static pg_atomic_uint64 *
counters(NbmfSlot *slot, NbmfStatsCodec codec, NbmfStatsOp op)
{
	return &slot->number[(codec * NBMF_STATS_OPS + op) * NBMF_STATS_COUNTERS];
}

static pg_atomic_uint64 *
histogram(NbmfSlot *slot, NbmfStatsCodec codec, NbmfStatsOp op)
{
	return &slot->number[SLOT_COUNTERS + (codec * NBMF_STATS_OPS + op) * NBMF_HISTOGRAM_BUCKETS];
}

/*
 * Free the slots of databases that are gone.  Needs a transaction.
 */
static void
free_dead_slots(void)
{
	for (int i = 0; i < area.slots; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(&area, i);
		Oid dbid = slot->dbid;

		if (OidIsValid(dbid) && !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(dbid)))
			nbmf_slot_free(&area, slot, dbid, InvalidOid);
	}
}

/*
 * The slot that this backend counts in.  Callable at transaction end, so it
 * reads no catalog; nbmf_stat() frees dead slots when it sees none left.
 */
static NbmfSlot *
get_slot(void)
{
	if (my_slot == NULL)
	{
		if (nbmf_slots_are_shared(&area) && OidIsValid(MyDatabaseId))
			my_slot = nbmf_slot_take(&area, InvalidOid);
		if (my_slot == NULL)
		{
			static bool ready = false;

			if (!ready)
			{
				nbmf_slot_init(&local.slot, SLOT_NUMBERS);
				nbmf_slot_clear(&local.slot, SLOT_NUMBERS);
				ready = true;
			}
			my_slot = &local.slot;
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
	NbmfSlot *slot;

	if (!nbmf_stats_dirty)
		return;
	slot = get_slot();
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
add_to_summary(Summary *summary, NbmfSlot *slot, NbmfStatsCodec codec)
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
static NbmfSlot *
settled_slot(void)
{
	if (nbmf_slots_are_shared(&area) && get_slot() == &local.slot)
	{
		free_dead_slots();
		my_slot = NULL;
	}
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
	NbmfSlot *slot = settled_slot();

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	for (int codec = 0; codec < NBMF_STATS_CODECS; codec++)
		add_to_summary(&summary, slot, codec);
	set_summary(values, nulls, &summary);
	values[SUMMARY_COLUMNS] =
		TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->reset_at));
	values[SUMMARY_COLUMNS + 1] = BoolGetDatum(slot != &local.slot);
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
	NbmfSlot *slot = settled_slot();

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
	nbmf_slot_clear(get_slot(), SLOT_NUMBERS);
	PG_RETURN_VOID();
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

	nbmf_slots_register(&area);
}
