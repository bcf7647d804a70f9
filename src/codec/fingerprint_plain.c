/*
 * fingerprint_plain.c
 *		The features of contents, for any processor.
 */
#include "codec/fingerprint.h"

/* Of 8 bytes of ASCII, those that can be part of a word, as the lowest bits (SWAR) */
static inline uint64_t
word_bytes(uint64_t x)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t lower = x | ones * 0x20;
	uint64_t letter = (lower + ones * (0x80 - 'a')) & ~(lower + ones * (0x80 - 'z' - 1));
	uint64_t digit = (x + ones * (0x80 - '0')) & ~(x + ones * (0x80 - '9' - 1));
	uint64_t underscore = ~((x ^ ones * '_') + ones * 0x7F);
	uint64_t found = (letter | digit | underscore) & ones * 0x80;

	return (found >> 7) * UINT64_C(0x0102040810204080) >> 56;
}

static inline NbmfMasks
block_masks(const uint8_t *p, uint64_t within)
{
	NbmfMasks masks = {0, 0, 0, 0};

	for (unsigned i = 0; i < 64 && within >> i != 0; i += 8)
	{
		uint64_t x = nbmf_load64le(p + i);

		if ((x & UINT64_C(0x8080808080808080)) == 0)
		{
			masks.word |= word_bytes(x) << i;
			continue;
		}
		for (unsigned k = i; k < i + 8; k++)
		{
			unsigned class = nbmf_fp_class[p[k]];

			masks.word |= (uint64_t) (class == NBMF_FP_PART || class == NBMF_FP_LEAD) << k;
			masks.two |= (uint64_t) (class == NBMF_FP_TWO) << k;
			masks.three |= (uint64_t) (class == NBMF_FP_THREE) << k;
			masks.lead |= (uint64_t) (class == NBMF_FP_LEAD) << k;
		}
	}
	masks.word &= within;
	masks.two &= within;
	masks.three &= within;
	masks.lead &= within;
	return masks;
}

static inline uint64_t
word_sum(const uint8_t *p, size_t len)
{
	return nbmf_fp_word_sum(p, len);
}

#include "codec/fingerprint_serial.h"

/* The bytes of w that equal '"' or '\\': the lowest bit set is of the first (SWAR) */
static inline uint64_t
special_bytes(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t quote = w ^ (ones * '"');
	uint64_t slash = w ^ (ones * '\\');

	return (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & (ones * 0x80);
}

#define BLOCK 8

static inline size_t
plain_bytes(const uint8_t *p)
{
	uint64_t found = special_bytes(nbmf_load64le(p));

	return found != 0 ? (size_t) __builtin_ctzll(found) / 8 : BLOCK;
}

static inline uint64_t
sum_64(const uint8_t *p, size_t len)
{
	return nbmf_fp_sum_within(p, len, false);
}

static uint64_t
full_bins(const uint32_t *least, uint64_t *full)
{
	uint64_t bits = 0;

	*full = 0;
	for (unsigned i = 0; i < NBMF_FP_BINS; i++)
	{
		bits |= (uint64_t) (least[i] & 1) << i;
		*full |= (uint64_t) (least[i] != NBMF_FP_EMPTY) << i;
	}
	return bits;
}

#define BORROWERS_MIN (NBMF_FP_BINS / 2)

static uint64_t
highest_bits(const uint32_t *least, uint32_t factor)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < NBMF_FP_BINS; i++)
		bits |= (uint64_t) (least[i] * factor >> 31) << i;
	return bits;
}

#define VECTOR_BLOCK nbmf_vector_block

#include "codec/fingerprint_code.h"

const NbmfFingerprintMethods nbmf_fp_plain = {add_features, fingerprint};
