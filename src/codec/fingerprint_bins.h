/*
 * fingerprint_bins.h
 *		From features to bits.  Compiled once for each kind of processor, like
 *		fingerprint_words.h.
 *
 * The file that includes this has defined
 *
 *	full_bins(least, full): the lowest bits of NBMF_FP_BINS numbers, and which of them are
 *		not NBMF_FP_EMPTY
 *	highest_bits(least, factor): the highest bits of NBMF_FP_BINS numbers, times the factor;
 *		worth it for BORROWERS_MIN of them or more
 *	VECTOR_BLOCK: the NbmfVectorBlock to use
 */
#ifndef NBMF_FINGERPRINT_BINS_H
#define NBMF_FINGERPRINT_BINS_H

/* The n-th bin that an empty one looks at is n times this further on */
#define STRIDE 39

/* The least feature of each bin, for each of the two words */
typedef struct Bins
{
	uint32_t least[2][2 * NBMF_FP_BINS]; /* the second half is for read_bins */
} Bins;

static inline void
put_least(uint32_t *bin, uint32_t h)
{
	*bin = h < *bin ? h : *bin;
}

/* As the second word sees a feature, other bits choose the bin, and others the least */
static inline void
take_one(Bins *bins, uint32_t h)
{
	put_least(&bins->least[0][h >> 26], h);
	put_least(&bins->least[1][h >> 10 & 63], h << 16 | h >> 16);
}

static void
take_least(void *state, const uint32_t *features, size_t count)
{
	const uint32_t *end = features + count;

	for (; end - features >= 4; features += 4)
	{
		take_one(state, features[0]);
		take_one(state, features[1]);
		take_one(state, features[2]);
		take_one(state, features[3]);
	}
	for (; features < end; features++)
		take_one(state, *features);
}

/* What an empty bin takes from one that is so many steps away */
static inline uint32_t
borrowing(unsigned step)
{
	return (uint32_t) nbmf_fp_mix(step * NBMF_FP_P1, NBMF_FP_P2) | 1;
}

/*
 * A bit of each bin's feature; the empty bins look at others until one is full.
 */
static uint64_t
read_bins(uint32_t *least)
{
	uint64_t full;
	uint64_t bits = full_bins(least, &full) & full;
	uint64_t empty = ~full;

	if (empty != 0)
		memcpy(least + NBMF_FP_BINS, least, NBMF_FP_BINS * sizeof(*least));
	for (unsigned step = 1; empty != 0 && step < NBMF_FP_BINS; step++)
	{
		unsigned by = step * STRIDE % NBMF_FP_BINS;
		uint32_t factor = borrowing(step);
		uint64_t now = empty & (full >> by | full << (NBMF_FP_BINS - by));

		empty ^= now;
		if (__builtin_popcountll(now) >= BORROWERS_MIN)
		{
			bits |= highest_bits(least + by, factor) & now;
			continue;
		}
		for (; now != 0; now &= now - 1)
		{
			unsigned i = (unsigned) __builtin_ctzll(now);

			bits |= (uint64_t) (least[i + by] * factor >> 31) << i;
		}
	}
	return bits;
}

static void
fingerprint(NbmfKind kind, const uint8_t *p, size_t len, NbmfFingerprint *out)
{
	NbmfFeatures features;
	Bins bins;

	if (kind == NBMF_KIND_VECTOR)
	{
		nbmf_vector_fingerprint(p, len, VECTOR_BLOCK, out);
		return;
	}
	for (unsigned k = 0; k < 2; k++)
		memset(bins.least[k], 0xFF, NBMF_FP_BINS * sizeof(uint32_t));
	features.take = take_least;
	features.state = &bins;
	add_features(&features, kind, p, len);
	out->simhash = read_bins(bins.least[0]);
	out->second = read_bins(bins.least[1]);
}

#endif /* NBMF_FINGERPRINT_BINS_H */
