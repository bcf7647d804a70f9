/*
 * fingerprint.c
 *		The fingerprint of a content: near contents have near bits.
 *
 * Text, JSON and bytes become sets of features; a one-permutation MinHash (Li,
 * Owen and Zhang 2012) of one bit a bin (Li and Koenig 2010) makes 128 bits of
 * a set, so that each bit of two fingerprints differs with probability
 * (1 - J) / 2, where J is the Jaccard similarity of the sets.  A simhash of the
 * same features needs more bits for the same certainty: at J = 0.8 it differs
 * in 9.7 of 64 bits, this in 6.4.  It also needs to know how often each feature
 * occurs, while a minimum does not care: no memory, whatever the content.
 * Bins that no feature falls into borrow from others, by a fixed sequence of
 * distances (after Shrivastava 2017), so that contents of a few words have
 * fingerprints that are as good.
 *
 * Vectors get signs of random projections (Charikar 2002), which is the simhash
 * in its original sense.
 *
 * The bits are part of the format (docs/format.md, section 11) and frozen;
 * test/golden/fingerprints pins them.  Nothing here allocates; the stack used
 * is less than 64 KB (nbmf_similarity: 256 KB), the time linear.
 */
#include "codec/fingerprint.h"

#define BINS  64
#define EMPTY (~UINT64_C(0))

/* The n-th bin that an empty one looks at is n times this further on */
#define STRIDE 39

/* The least feature of each bin, for each of the two words */
typedef struct Bins
{
	uint64_t least[2][BINS];
} Bins;

/* Is there AVX2?  Its results are the same. */
bool
nbmf_fp_simd(void)
{
#ifdef NBMF_FP_AVX2
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
#else
	return false;
#endif
}

static inline void
put_least(uint64_t *least, uint64_t h)
{
	uint64_t *bin = &least[h >> 58];

	*bin = h < *bin ? h : *bin;
}

static void
take_least(void *state, const uint64_t *features, size_t count)
{
	Bins *bins = state;
	size_t i = 0;

	for (; i + 4 <= count; i += 4)
		for (size_t k = i; k < i + 4; k++)
		{
			put_least(bins->least[0], features[k]);
			put_least(bins->least[1], nbmf_fp_mix(features[k], NBMF_FP_P3));
		}
	for (; i < count; i++)
	{
		put_least(bins->least[0], features[i]);
		put_least(bins->least[1], nbmf_fp_mix(features[i], NBMF_FP_P3));
	}
}

void
nbmf_features_flush(NbmfFeatures *out)
{
	out->take(out->state, out->waiting, out->count);
	out->any += out->count;
	out->count = 0;
}

/* Every run of eight bytes */
static void
bytes_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 8 <= len; i++)
		nbmf_feature(out, nbmf_fp_mix(nbmf_fp_mix(nbmf_load64le(p + i), NBMF_FP_P1), NBMF_FP_P5));
}

/*
 * All features of a content that is no vector; at least one.
 */
void
nbmf_features(NbmfFeatures *out, NbmfKind kind, const void *content, size_t len)
{
	const uint8_t *p = content;

	out->any = 0;
	out->count = 0;
	if (kind == NBMF_KIND_JSON)
		nbmf_json_features(out, p, len);
	else if (kind == NBMF_KIND_TEXT)
		nbmf_text_features(out, p, len);
	else
		bytes_features(out, p, len);
	if (out->any == 0 && out->count == 0)
		nbmf_feature(out, nbmf_fp_string(0, p, len));
	nbmf_features_flush(out);
}

/* The bit that an empty bin gets from another one's feature */
static uint64_t
borrowed_bit(uint64_t h, unsigned bin)
{
	h = nbmf_fp_mix(h ^ (bin + 1) * NBMF_FP_P1, NBMF_FP_P2);
	return (h * NBMF_FP_P4) >> 63;
}

/* The lowest bit of each bin, and which of them are full */
static uint64_t
full_bins(const uint64_t *least, bool simd, uint64_t *full)
{
	uint64_t bits = 0;

#ifdef NBMF_FP_AVX2
	if (simd)
		return nbmf_bins_read_avx2(least, full);
#else
	(void) simd;
#endif
	*full = 0;
	for (unsigned i = 0; i < BINS; i++)
	{
		bits |= (least[i] & 1) << i;
		*full |= (uint64_t) (least[i] != EMPTY) << i;
	}
	return bits;
}

/* A bit of each bin's feature; the empty bins look at others until one is full */
static uint64_t
read_bins(const uint64_t *least, bool simd)
{
	uint64_t bits;
	uint64_t full;
	uint64_t empty;

	bits = full_bins(least, simd, &full) & full;
	empty = ~full;
	for (unsigned step = 1; empty != 0 && step < BINS; step++)
	{
		unsigned by = step * STRIDE % BINS;
		uint64_t lent = (full >> by) | (full << (BINS - by));

		for (uint64_t now = empty & lent; now != 0; now &= now - 1)
		{
			unsigned i = (unsigned) __builtin_ctzll(now);

			bits |= borrowed_bit(least[(i + by) % BINS], i) << i;
		}
		empty &= ~lent;
	}
	return bits;
}

static void
fingerprint(NbmfKind kind, const void *content, size_t len, bool simd, NbmfFingerprint *out)
{
	NbmfFeatures features;
	Bins bins;

	if (kind == NBMF_KIND_VECTOR)
	{
		nbmf_vector_fingerprint(content, len, simd, out);
		return;
	}
	memset(&bins, 0xFF, sizeof(bins));
	features.take = take_least;
	features.state = &bins;
	features.simd = simd;
	nbmf_features(&features, kind, content, len);
	out->simhash = read_bins(bins.least[0], simd);
	out->second = read_bins(bins.least[1], simd);
}

/*
 * The fingerprint of len bytes of content.  Any bytes will do; that of content
 * that cannot be of its kind is not specified, but always the same.
 */
void
nbmf_fingerprint(NbmfKind kind, const void *content, size_t len, NbmfFingerprint *out)
{
	fingerprint(kind, content, len, nbmf_fp_simd(), out);
}

/*
 * The same without special instructions, for tests.
 */
void
nbmf_fingerprint_portable(NbmfKind kind, const void *content, size_t len, NbmfFingerprint *out)
{
	fingerprint(kind, content, len, false, out);
}

/*
 * In how many of the 64 bits do two fingerprints differ?
 */
int
nbmf_fingerprint_distance(uint64_t a, uint64_t b)
{
	return __builtin_popcountll(a ^ b);
}
