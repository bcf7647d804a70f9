/*
 * fingerprint_vector.c
 *		The fingerprint of a vector: the signs of 128 projections of it.
 *
 * The angle between two vectors, as a share of 180 degrees, is the probability
 * that a projection on a random direction has another sign (Charikar 2002).
 * The directions are the rows of H D' H D for each block of 128 components, H
 * a Hadamard matrix and D, D' random signs (Yu et al. 2016): as good as
 * Gaussian ones, orthogonal within a block, and 28 additions a component
 * instead of 128.
 *
 * Components become integers first, of 16 bits relative to the largest, so that
 * the result does not depend on how floating point is rounded, or on the order
 * of additions.
 */
#include "codec/fingerprint.h"

#define BLOCK 128

/* Of NaN, the smallest encoding less one, as the bits of a float4 */
#define INFINITE UINT32_C(0x7F800000)

static uint64_t
sign_word(uint64_t n)
{
	uint64_t x = (n + 1) * NBMF_FP_P1;

	x = nbmf_fp_mix(x ^ (x >> 32), NBMF_FP_P2);
	return nbmf_fp_mix(x, NBMF_FP_P4);
}

/*
 * The exponent of the largest component; NaN does not count.
 */
uint32_t
nbmf_vector_scale(const uint8_t *p, size_t count)
{
	uint32_t most = 0;

	for (size_t i = 0; i < count; i++)
	{
		uint32_t size = nbmf_load32le(p + 4 * i) & 0x7FFFFFFF;

		size = size > INFINITE ? 0 : size;
		most = size > most ? size : most;
	}
	return most >> 23 > 0 ? most >> 23 : 1;
}

/*
 * Components as integers of at most 16 bits and a sign, cut towards zero.  Infinity
 * is twice the largest power of two, NaN is 0.
 */
void
nbmf_vector_integers(const uint8_t *p, size_t count, uint32_t scale, int32_t *out)
{
	for (size_t i = 0; i < count; i++)
	{
		uint32_t bits = nbmf_load32le(p + 4 * i);
		uint32_t size = bits & 0x7FFFFFFF;
		uint32_t exponent = size >> 23;
		uint32_t fraction = size & 0x7FFFFF;
		uint32_t shift;
		int32_t q;

		fraction |= exponent > 0 ? UINT32_C(1) << 23 : 0;
		shift = 8 + scale - (exponent > 0 ? exponent : 1);
		q = size > INFINITE || shift > 31 ? 0 : (int32_t) (fraction >> shift);
		out[i] = (bits >> 31) != 0 ? -q : q;
	}
}

/*
 * The projections of a block of 128 integers, which are overwritten, by signs of four
 * words, added to sums.
 */
void
nbmf_vector_block(int32_t *q, const uint64_t *signs, int64_t *sums)
{
	for (unsigned round = 0; round < 2; round++)
	{
		for (unsigned i = 0; i < BLOCK; i++)
			if ((signs[2 * round + i / 64] >> (i % 64)) & 1)
				q[i] = -q[i];
		for (unsigned apart = 1; apart < BLOCK; apart *= 2)
			for (unsigned i = 0; i < BLOCK; i += 2 * apart)
				for (unsigned k = i; k < i + apart; k++)
				{
					int32_t a = q[k];
					int32_t b = q[k + apart];

					q[k] = a + b;
					q[k + apart] = a - b;
				}
	}
	for (unsigned i = 0; i < BLOCK; i++)
		sums[i] += q[i];
}

/*
 * The fingerprint of the float4s at p; bytes that are no whole one are left out.
 *
 * A number has 16 bits and a sign, a transform adds up 128 of them: 30 bits and
 * a sign after two; 2^21 blocks at most: 51 bits.
 */
void
nbmf_vector_fingerprint(const uint8_t *p, size_t len, NbmfVectorBlock *block, NbmfFingerprint *out)
{
	size_t count = len / 4;
	uint32_t scale = nbmf_vector_scale(p, count);
	int64_t sums[BLOCK] = {0};

	for (size_t done = 0; done < count; done += BLOCK)
	{
		size_t n = count - done < BLOCK ? count - done : BLOCK;
		int32_t q[BLOCK] = {0};
		uint64_t signs[4];

		nbmf_vector_integers(p + 4 * done, n, scale, q);
		for (unsigned i = 0; i < 4; i++)
			signs[i] = sign_word(4 * (uint64_t) (done / BLOCK) + i);
		block(q, signs, sums);
	}
	out->simhash = 0;
	out->second = 0;
	for (unsigned i = 0; i < 64; i++)
	{
		out->simhash |= (uint64_t) (sums[i] > 0) << i;
		out->second |= (uint64_t) (sums[64 + i] > 0) << i;
	}
}
