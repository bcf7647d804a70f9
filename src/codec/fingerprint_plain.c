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

static inline size_t
put_marks(uint64_t bits, unsigned base, uint16_t *marks)
{
	size_t n = 0;

	for (; bits != 0; bits &= bits - 1)
		marks[n++] = (uint16_t) (base + (unsigned) __builtin_ctzll(bits));
	return n;
}

static inline size_t
hash_words(const uint8_t *p, const uint16_t *marks, size_t count, bool pairs, NbmfBefore *before,
		   uint32_t *to)
{
	NbmfBefore b = *before;
	size_t i;

	for (i = 0; i < count; i++, marks += 2)
	{
		size_t len = (size_t) (marks[1] - marks[0]);
		uint32_t word;
		uint32_t pair;

		if (len > NBMF_WORD_MAX)
			break;
		word = nbmf_fp_fold(nbmf_fp_word_sum(p + marks[0], len));
		pair = nbmf_fp_join(b.word, word, NBMF_FP_PAIR_A, NBMF_FP_PAIR_B);
		if (pairs)
			*to++ = pair;
		*to++ = nbmf_fp_join(b.pair, word, NBMF_FP_TRIPLE_A, NBMF_FP_TRIPLE_B);
		b.word = word;
		b.pair = pair;
	}
	*before = b;
	return i;
}

/* The bytes of w that equal '"' or '\\': the lowest bit set is of the first (SWAR) */
static inline uint64_t
special_bytes(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t quote = w ^ (ones * '"');
	uint64_t slash = w ^ (ones * '\\');

	return (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & (ones * 0x80);
}

static inline size_t
find_special(const uint8_t *p, const uint8_t *end)
{
	uint64_t found = special_bytes(nbmf_load64le(p));
	size_t i = 0;

	while (found == 0 && i < NBMF_PIECE - 8 && p + i + 8 < end)
	{
		i += 8;
		found = special_bytes(nbmf_load64le(p + i));
	}
	return found != 0 ? i + (size_t) __builtin_ctzll(found) / 8 : i;
}

#define COPIED 8

static inline size_t
copy_plain(const uint8_t *p, uint8_t *to)
{
	uint64_t found = special_bytes(nbmf_load64le(p));

	memcpy(to, p, COPIED);
	return found != 0 ? (size_t) __builtin_ctzll(found) / 8 : COPIED;
}

static inline uint64_t
sum_64(const uint8_t *p, size_t len)
{
	return len <= 16 ? nbmf_fp_sum_16(p, len) : nbmf_fp_sum(p, len);
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
