/*
 * stats.h
 *		Counting what the type does, for the pg_stat_nbmf* views.
 *
 * The hot path is nbmf_stats_start / nbmf_stats_stop around one encoding or
 * decoding: a few additions to backend-local memory, and one pair of clock
 * readings for one call in nbmf.latency_sample.
 */
#ifndef NBMF_STATS_H
#define NBMF_STATS_H

#include "port/atomics.h"
#include "portability/instr_time.h"

/*
 * Histogram of nanoseconds: four buckets an octave, so a bucket's bounds are
 * at most 25 % apart.  Bucket i holds values from bucket_start(i) on; the
 * first also holds what is shorter, the last what is longer (68 s).
 */
#define NBMF_HISTOGRAM_MIN_BITS 4
#define NBMF_HISTOGRAM_MAX_BITS 36
#define NBMF_HISTOGRAM_BUCKETS  ((NBMF_HISTOGRAM_MAX_BITS - NBMF_HISTOGRAM_MIN_BITS) * 4)

typedef enum NbmfStatsOp
{
	NBMF_STATS_ENCODE,
	NBMF_STATS_DECODE
} NbmfStatsOp;

#define NBMF_STATS_OPS (NBMF_STATS_DECODE + 1)

/* What did it; each is counted apart */
typedef enum NbmfStatsCodec
{
	NBMF_STATS_PLAIN, /* zstd, or nothing */
	NBMF_STATS_DICTIONARY,
	NBMF_STATS_NEURAL
} NbmfStatsCodec;

#define NBMF_STATS_CODECS (NBMF_STATS_NEURAL + 1)

/* What is counted of each operation */
typedef enum NbmfStatsCounter
{
	NBMF_STATS_CALLS,        /* operations that succeeded */
	NBMF_STATS_RAW_BYTES,    /* content */
	NBMF_STATS_STORED_BYTES, /* frames, with the varlena header they get */
	NBMF_STATS_ERRORS,       /* operations that failed */
	NBMF_STATS_TIMED,        /* operations that were timed */
	NBMF_STATS_NANOSECONDS   /* time of those */
} NbmfStatsCounter;

#define NBMF_STATS_COUNTERS (NBMF_STATS_NANOSECONDS + 1)

typedef struct NbmfStatsTimer
{
	bool running;
	instr_time start;
} NbmfStatsTimer;

extern PGDLLIMPORT int nbmf_latency_sample;
extern PGDLLIMPORT int nbmf_stats_countdown[NBMF_STATS_OPS];
extern PGDLLIMPORT uint64
	nbmf_stats_pending[NBMF_STATS_CODECS][NBMF_STATS_OPS][NBMF_STATS_COUNTERS];
extern PGDLLIMPORT bool nbmf_stats_dirty;

extern void nbmf_stats_init(void);
extern void nbmf_stats_add_latency(NbmfStatsCodec codec, NbmfStatsOp op,
								   const NbmfStatsTimer *timer);

extern int nbmf_histogram_bucket(uint64 ns);
extern double nbmf_histogram_quantile_ms(const uint64 *count, double q);

/*
 * nbmf_casstats.c: lookups in nbmf_cas indexes
 */

/* What is counted of each index: how lookups end, and more */
typedef enum NbmfCasCounter
{
	NBMF_CAS_EXACT,      /* lookups that found their content */
	NBMF_CAS_NEAR,       /* lookups that did not, but a near one, contents compared */
	NBMF_CAS_UNVERIFIED, /* likewise by fingerprint; nobody compared contents */
	NBMF_CAS_MISS,       /* lookups that found nothing */
	NBMF_CAS_DIVERGENCE, /* near ones whose contents proved not to be similar */
	NBMF_CAS_TIMED,      /* lookups that were timed */
	NBMF_CAS_NANOSECONDS /* time of those */
} NbmfCasCounter;

#define NBMF_CAS_STATS_COUNTERS (NBMF_CAS_NANOSECONDS + 1)

extern void nbmf_cas_stats_count(Oid index, NbmfCasCounter counter, uint64 n);
extern void nbmf_cas_stats_lookup(Oid index, NbmfCasCounter outcome, uint64 ns);
extern void nbmf_cas_stats_init(void);

/* Start an operation: decides whether this one is timed. */
static inline void
nbmf_stats_start(NbmfStatsOp op, NbmfStatsTimer *timer)
{
	timer->running = false;
	if (nbmf_latency_sample > 0 && --nbmf_stats_countdown[op] <= 0)
	{
		nbmf_stats_countdown[op] = nbmf_latency_sample;
		timer->running = true;
		INSTR_TIME_SET_CURRENT(timer->start);
	}
}

/* An operation has succeeded: sizes of its content and frame. */
static inline void
nbmf_stats_stop(NbmfStatsCodec codec, NbmfStatsOp op, NbmfStatsTimer *timer, Size raw_len,
				Size stored_len)
{
	uint64 *pending = nbmf_stats_pending[codec][op];

	if (timer->running)
		nbmf_stats_add_latency(codec, op, timer);
	pending[NBMF_STATS_CALLS]++;
	pending[NBMF_STATS_RAW_BYTES] += raw_len;
	pending[NBMF_STATS_STORED_BYTES] += stored_len;
	nbmf_stats_dirty = true;
}

/* An operation has failed. */
static inline void
nbmf_stats_error(NbmfStatsCodec codec, NbmfStatsOp op)
{
	nbmf_stats_pending[codec][op][NBMF_STATS_ERRORS]++;
	nbmf_stats_dirty = true;
}

#endif /* NBMF_STATS_H */
