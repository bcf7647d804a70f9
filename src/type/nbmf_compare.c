/*
 * nbmf_compare.c
 *		Equality, hashing and ANALYZE.
 *
 * Two values are equal when their texts are.  Text and json kinds store the
 * text itself; the texts of the other kinds differ from each other's and from
 * those (nbmf_value_from_text sees to it), so content is compared instead.
 *
 * The checksum and length in the header decide nearly every comparison, and
 * the checksum alone makes the hash, so that hashing a toasted value reads its
 * first TOAST chunk and decodes nothing.  Of what a model has encoded, the header
 * says half of the checksum: that still decides most comparisons, but hashing
 * decodes it.
 */
#include "postgres.h"

#include <math.h>

#include "commands/vacuum.h"
#include "common/hashfn.h"
#include "utils/fmgrprotos.h"

#include "compat.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_eq);
PG_FUNCTION_INFO_V1(nbmf_ne);
PG_FUNCTION_INFO_V1(nbmf_hash);
PG_FUNCTION_INFO_V1(nbmf_hash_extended);
PG_FUNCTION_INFO_V1(nbmf_typanalyze);

/*
 * Values of different representations are different.
 */
static inline int
representation(NbmfKind kind)
{
	return kind == NBMF_KIND_JSON ? NBMF_KIND_TEXT : kind;
}

/*
 * May two frames be of the same content, by what their headers say?
 */
static bool
headers_agree(const NbmfFrame *a, const NbmfFrame *b)
{
	if (a->complete && b->complete)
		return a->checksum == b->checksum && a->raw_len == b->raw_len;
	return ((a->checksum ^ b->checksum) & 0xffff) == 0;
}

static bool
values_are_equal(Datum a, Datum b)
{
	NbmfFrame frame_a;
	NbmfFrame frame_b;
	Nbmf *value_a;
	Nbmf *value_b;
	bool result;

	nbmf_value_frame(a, &frame_a);
	nbmf_value_frame(b, &frame_b);
	if (!headers_agree(&frame_a, &frame_b) ||
		representation(frame_a.kind) != representation(frame_b.kind))
		return false;

	value_a = DatumGetNbmfPP(a);
	value_b = DatumGetNbmfPP(b);
	result = VARSIZE_ANY_EXHDR(value_a) == VARSIZE_ANY_EXHDR(value_b) &&
			 memcmp(VARDATA_ANY(value_a), VARDATA_ANY(value_b), VARSIZE_ANY_EXHDR(value_a)) == 0;
	if (!result)
	{
		char *content_a = nbmf_value_decode(value_a, 0, &frame_a);
		char *content_b = nbmf_value_decode(value_b, 0, &frame_b);

		result = frame_a.raw_len == frame_b.raw_len &&
				 memcmp(content_a, content_b, frame_a.raw_len) == 0;
		pfree(content_a);
		pfree(content_b);
	}
	if ((Pointer) value_a != DatumGetPointer(a))
		pfree(value_a);
	if ((Pointer) value_b != DatumGetPointer(b))
		pfree(value_b);
	return result;
}

Datum
nbmf_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(values_are_equal(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

Datum
nbmf_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!values_are_equal(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

static uint32
hash_input(Datum datum)
{
	NbmfFrame frame;

	nbmf_value_whole_frame(datum, &frame);
	return frame.checksum + (uint32) representation(frame.kind);
}

Datum
nbmf_hash(PG_FUNCTION_ARGS)
{
	return hash_uint32(hash_input(PG_GETARG_DATUM(0)));
}

Datum
nbmf_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_uint32_extended(hash_input(PG_GETARG_DATUM(0)), (uint64) PG_GETARG_INT64(1));
}

/*
 * ANALYZE
 *
 * The standard routine would copy common values into pg_statistic, where they
 * would outlive their rows and, later, the dictionaries they refer to.  Null
 * fraction, width and number of distinct values are what the planner needs of
 * a type that has no order.
 */

static int
compare_uint32(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Estimate of the number of distinct values, from a sample of hashes: the Duj1
 * estimator of Haas and Stokes (1998), with the bounds that analyze.c uses.
 * The result is in pg_statistic's convention: a count, or minus a fraction of
 * the rows.
 */
static double
estimate_distinct(uint32 *hashes, int n, double total_rows, double nonnull_rows)
{
	int distinct = 0;
	int singles = 0;
	double estimate;

	qsort(hashes, n, sizeof(uint32), compare_uint32);
	for (int i = 0; i < n;)
	{
		int j = i + 1;

		while (j < n && hashes[j] == hashes[i])
			j++;
		distinct++;
		if (j == i + 1)
			singles++;
		i = j;
	}

	if (singles == distinct)
		return -nonnull_rows / total_rows;
	if (singles == 0)
		estimate = distinct;
	else
	{
		double N = nonnull_rows;

		estimate = (N > 0) ? (double) n * distinct / ((n - singles) + singles * (double) n / N) : 0;
		estimate = Max(estimate, (double) distinct);
		estimate = Min(estimate, N);
		estimate = floor(estimate + 0.5);
	}
	if (estimate > 0.1 * total_rows)
		return -(estimate / total_rows);
	return estimate;
}

static void
compute_nbmf_stats(VacAttrStatsP stats, AnalyzeAttrFetchFunc fetch, int samplerows,
				   double totalrows)
{
	uint32 *hashes = palloc(Max(samplerows, 1) * sizeof(uint32));
	double total_width = 0;
	int nonnull = 0;

	for (int i = 0; i < samplerows; i++)
	{
		NbmfFrame frame;
		bool isnull;
		Size frame_len;
		Datum datum = fetch(stats, i, &isnull);

		nbmf_analyze_delay_point();
		if (isnull)
			continue;
		total_width += VARSIZE_ANY(DatumGetPointer(datum));

		/* a damaged header is no reason to have no statistics */
		if (nbmf_value_parse(datum, &frame, &frame_len) != NBMF_OK)
			frame.checksum = 0;
		else if (!frame.complete)
		{
			/* not worth decoding: what is equal is encoded alike, as a rule */
			Nbmf *value = DatumGetNbmfPP(datum);

			frame.checksum =
				hash_bytes((unsigned char *) VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value));
			if ((Pointer) value != DatumGetPointer(datum))
				pfree(value);
		}
		hashes[nonnull++] = frame.checksum;
	}

	if (samplerows > 0)
	{
		stats->stats_valid = true;
		stats->stanullfrac = (float4) ((double) (samplerows - nonnull) / samplerows);
		stats->stawidth = nonnull > 0 ? (int32) (total_width / nonnull) : 0;
		stats->stadistinct = 0;
		if (nonnull > 0)
			stats->stadistinct = (float4) estimate_distinct(hashes, nonnull, totalrows,
															totalrows * nonnull / samplerows);
	}
	pfree(hashes);
}

Datum
nbmf_typanalyze(PG_FUNCTION_ARGS)
{
	VacAttrStats *stats = (VacAttrStats *) PG_GETARG_POINTER(0);

	if (nbmf_statistics_target(stats) < 0)
		nbmf_set_statistics_target(stats, default_statistics_target);
	stats->compute_stats = compute_nbmf_stats;
	stats->minrows = 300 * nbmf_statistics_target(stats);
	PG_RETURN_BOOL(true);
}
