/*
 * match.c
 *		Which of many fingerprints are within a distance of one?
 *
 * The loop is compiled twice, because popcount is an instruction of its own on every
 * x86 processor of the last 15 years but not in the baseline; and made for
 * AVX2, which counts the bits of four fingerprints at once by a table of those
 * of half a byte (Mula, Kurz and Lemire 2018).  All give the same.
 *
 * Called by the index, for each page that it looks at.
 */
#include "codec/codec.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MATCH_X86 1
#endif

/* Keys of a line of the processor's cache */
#define LINE_KEYS 8

static inline __attribute__((always_inline)) int
match_loop(const uint64_t *keys, int n, uint64_t query, int distance, const char *ahead,
		   uint16_t *out)
{
	int found = 0;

	for (int i = 0; i < n; i++)
	{
		if (ahead != NULL && i % LINE_KEYS == 0)
			__builtin_prefetch(ahead + (size_t) i * sizeof(uint64_t));
		out[found] = (uint16_t) i;
		found += __builtin_popcountll(keys[i] ^ query) <= distance;
	}
	return found;
}

static int
match_portable(const uint64_t *keys, int n, uint64_t query, int distance, const char *ahead,
			   uint16_t *out)
{
	return match_loop(keys, n, query, distance, ahead, out);
}

#ifdef MATCH_X86
__attribute__((target("popcnt"))) static int
match_popcnt(const uint64_t *keys, int n, uint64_t query, int distance, const char *ahead,
			 uint16_t *out)
{
	return match_loop(keys, n, query, distance, ahead, out);
}

__attribute__((target("avx2,popcnt"))) static int
match_avx2(const uint64_t *keys, int n, uint64_t query, int distance, const char *ahead,
		   uint16_t *out)
{
	const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
										   2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
	const __m256i nibble = _mm256_set1_epi8(15);
	const __m256i sought = _mm256_set1_epi64x((long long) query);
	const __m256i limit = _mm256_set1_epi64x(distance);
	int found = 0;
	int i = 0;

	for (; i + 4 <= n; i += 4)
	{
		__m256i x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) (keys + i)), sought);
		__m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
		__m256i high =
			_mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi64(x, 4), nibble));
		__m256i sum = _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
		unsigned inside =
			~_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(sum, limit))) & 15;

		if (ahead != NULL && i % LINE_KEYS == 0)
			__builtin_prefetch(ahead + (size_t) i * sizeof(uint64_t));
		for (; inside != 0; inside &= inside - 1)
			out[found++] = (uint16_t) (i + __builtin_ctz(inside));
	}
	for (; i < n; i++)
	{
		if (__builtin_popcountll(keys[i] ^ query) <= distance)
			out[found++] = (uint16_t) i;
	}
	return found;
}
#endif

/*
 * The functions that this processor has, the fastest first; NULL if there are not so
 * many.
 */
NbmfMatch
nbmf_match_function(int rank)
{
	NbmfMatch found[3];
	int n = 0;

#ifdef MATCH_X86
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
		found[n++] = match_avx2;
	if (__builtin_cpu_supports("popcnt"))
		found[n++] = match_popcnt;
#endif
	found[n++] = match_portable;
	return rank < n ? found[rank] : NULL;
}
