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

#define BINS  128
#define EMPTY (~UINT64_C(0))

/* The n-th bin that an empty one looks at is this many times n further on */
#define STRIDE 77

typedef struct Bins
{
	uint64_t least[BINS];
} Bins;

/* Is there AVX2?  Its results are the same. */
bool
nbmf_fp_simd(void)
{
#ifdef NBMF_FP_AVX2
	return __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

static void
take_least(void *state, const uint64_t *features, size_t count)
{
	uint64_t *least = ((Bins *) state)->least;

	for (size_t i = 0; i < count; i++)
	{
		uint64_t h = features[i];
		uint64_t *bin = &least[h >> 57];

		*bin = h < *bin ? h : *bin;
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
		nbmf_feature(out, nbmf_fp_mix(nbmf_fp_load64(p + i), NBMF_FP_P1));
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

/* The bit that a bin gets from another one's feature */
static uint64_t
borrowed_bit(uint64_t h, unsigned bin)
{
	h = nbmf_fp_mix(h ^ (bin + 1) * NBMF_FP_P1, NBMF_FP_P2);
	return (h * NBMF_FP_P4) >> 63;
}

static void
read_bins(const Bins *bins, NbmfFingerprint *out)
{
	uint64_t bits[2] = {0, 0};
	uint64_t full[2] = {0, 0};

	for (unsigned i = 0; i < BINS; i++)
	{
		bits[i / 64] |= (bins->least[i] & 1) << (i % 64);
		full[i / 64] |= (uint64_t) (bins->least[i] != EMPTY) << (i % 64);
	}
	/* an empty bin's bit is 1 so far */
	bits[0] &= full[0];
	bits[1] &= full[1];

	if ((full[0] & full[1]) != ~UINT64_C(0))
	{
		uint64_t left[2] = {~full[0], ~full[1]};

		for (unsigned step = 1; (left[0] | left[1]) != 0; step++)
		{
			unsigned by = step * STRIDE % BINS;
			unsigned shift = by % 64;
			unsigned low = by / 64; /* word that bin 0 now looks into */
			uint64_t seen[2];

			/* bit i of seen: is bin (i + by) % BINS full? */
			for (unsigned k = 0; k < 2; k++)
			{
				seen[k] = full[(k + low) % 2] >> shift;
				if (shift != 0)
					seen[k] |= full[(k + low + 1) % 2] << (64 - shift);
			}
			for (unsigned k = 0; k < 2; k++)
			{
				for (uint64_t now = left[k] & seen[k]; now != 0; now &= now - 1)
				{
					unsigned at = (unsigned) __builtin_ctzll(now);
					unsigned bin = 64 * k + at;

					bits[k] |= borrowed_bit(bins->least[(bin + by) % BINS], bin) << at;
				}
				left[k] &= ~seen[k];
			}
		}
	}
	out->simhash = bits[0];
	out->second = bits[1];
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
	for (unsigned i = 0; i < BINS; i++)
		bins.least[i] = EMPTY;
	features.take = take_least;
	features.state = &bins;
	features.simd = simd;
	nbmf_features(&features, kind, content, len);
	read_bins(&bins, out);
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
