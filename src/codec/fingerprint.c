/*
 * fingerprint.c
 *		The fingerprint of a content: near contents have near bits.
 *
 * First version: the interface is final, the bits are not yet frozen.
 */
#include "codec/codec.h"

#include <string.h>

static uint64_t
mix64(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xD6E8FEB86659FD93);
	x ^= x >> 32;
	x *= UINT64_C(0xD6E8FEB86659FD93);
	x ^= x >> 32;
	return x;
}

static void
count_bits(int64_t *sums, uint64_t h)
{
	for (unsigned i = 0; i < 64; i++)
		sums[i] += ((h >> i) & 1) != 0 ? 1 : -1;
}

static uint64_t
signs(const int64_t *sums)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < 64; i++)
		bits |= (uint64_t) (sums[i] > 0) << i;
	return bits;
}

/*
 * The fingerprint of len bytes of content.  Any bytes will do.
 */
void
nbmf_fingerprint(NbmfKind kind, const void *content, size_t len, NbmfFingerprint *out)
{
	const uint8_t *p = content;
	int64_t sums[2][64] = {{0}};
	uint64_t word = 0;

	for (size_t i = 0; i <= len; i++)
	{
		bool inside = i < len &&
					  (p[i] >= 0x80 || (p[i] >= '0' && p[i] <= '9') ||
					   (p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= 'a' && p[i] <= 'z') || p[i] == '_');

		if (inside || (i < len && kind >= NBMF_KIND_BYTEA))
			word = mix64(word * 31 + p[i] + 1);
		if (!inside && word != 0)
		{
			count_bits(sums[0], word);
			count_bits(sums[1], mix64(word));
			word = 0;
		}
	}
	out->simhash = signs(sums[0]);
	out->second = signs(sums[1]);
}

/*
 * In how many of the 64 bits do two fingerprints differ?
 */
int
nbmf_fingerprint_distance(uint64_t a, uint64_t b)
{
	return __builtin_popcountll(a ^ b);
}

/*
 * How similar two contents are, 0 to 1, by their contents.
 */
double
nbmf_similarity(NbmfKind kind, const void *a, size_t a_len, const void *b, size_t b_len)
{
	NbmfFingerprint x;
	NbmfFingerprint y;

	if (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0))
		return 1.0;
	nbmf_fingerprint(kind, a, a_len, &x);
	nbmf_fingerprint(kind, b, b_len, &y);
	return 1.0 - (double) (nbmf_fingerprint_distance(x.simhash, y.simhash) +
						   nbmf_fingerprint_distance(x.second, y.second)) /
					 128.0;
}
