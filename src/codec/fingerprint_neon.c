/*
 * fingerprint_neon.c
 *		The fingerprint for aarch64, all of whose processors have NEON.
 *
 * Each function gives, bit for bit, what its portable counterpart gives.
 */
#include "codec/fingerprint.h"

#ifdef NBMF_FP_NEON

#include <arm_neon.h>

/* A bit for each of 64 bytes that are all ones or all zeros */
static inline uint64_t
bits_of(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d)
{
	const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
	uint8x16_t low = vpaddq_u8(vandq_u8(a, bit), vandq_u8(b, bit));
	uint8x16_t high = vpaddq_u8(vandq_u8(c, bit), vandq_u8(d, bit));

	low = vpaddq_u8(low, high);
	return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(low, low)), 0);
}

static inline uint8x16_t
is_word(uint8x16_t v)
{
	uint8x16_t lower = vorrq_u8(v, vdupq_n_u8(0x20));
	uint8x16_t letter = vcltq_u8(vsubq_u8(lower, vdupq_n_u8('a')), vdupq_n_u8(26));
	uint8x16_t digit = vcltq_u8(vsubq_u8(v, vdupq_n_u8('0')), vdupq_n_u8(10));
	uint8x16_t other = vorrq_u8(vceqq_u8(v, vdupq_n_u8('_')), vcgeq_u8(v, vdupq_n_u8(0x80)));

	return vorrq_u8(vorrq_u8(letter, digit), other);
}

static inline uint8x16_t
is_byte(uint8x16_t v, uint8_t c)
{
	return vceqq_u8(v, vdupq_n_u8(c));
}

/* E3 to E9, EF */
static inline uint8x16_t
is_lead(uint8x16_t v)
{
	return vorrq_u8(vcltq_u8(vsubq_u8(v, vdupq_n_u8(0xE3)), vdupq_n_u8(7)), is_byte(v, 0xEF));
}

static inline NbmfMasks
block_masks(const uint8_t *p, uint64_t within)
{
	uint8x16_t a = vld1q_u8(p);
	uint8x16_t b = vld1q_u8(p + 16);
	uint8x16_t c = vld1q_u8(p + 32);
	uint8x16_t d = vld1q_u8(p + 48);
	NbmfMasks masks = {bits_of(is_word(a), is_word(b), is_word(c), is_word(d)) & within, 0, 0, 0};

	if (vmaxvq_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d))) >= 0x80)
	{
		masks.two = within &
					bits_of(is_byte(a, 0xC2), is_byte(b, 0xC2), is_byte(c, 0xC2), is_byte(d, 0xC2));
		masks.three = within & bits_of(is_byte(a, 0xE2), is_byte(b, 0xE2), is_byte(c, 0xE2),
									   is_byte(d, 0xE2));
		masks.lead = within & bits_of(is_lead(a), is_lead(b), is_lead(c), is_lead(d));
		masks.word &= ~(masks.two | masks.three);
	}
	return masks;
}

/* 16 bytes, of which "first" says which count, as two terms of a sum */
static inline uint64x2_t
terms(uint8x16_t v, const uint8_t *first, const uint32_t *keys)
{
	uint32x4_t x = vreinterpretq_u32_u8(vandq_u8(v, vld1q_u8(first)));

	x = vaddq_u32(x, vld1q_u32(keys));
	return vmull_u32(vget_low_u32(vuzp1q_u32(x, x)), vget_low_u32(vuzp2q_u32(x, x)));
}

static inline uint64_t
sum_64(const uint8_t *p, size_t len)
{
	const uint8_t *first = nbmf_fp_first + 64 - len;
	uint64x2_t sum = terms(vld1q_u8(p), first, nbmf_fp_keys);

	if (len <= 16)
		return vaddvq_u64(sum) + NBMF_FP_REST;
	for (size_t i = 16; i < 64; i += 16)
		sum = vaddq_u64(sum, terms(vld1q_u8(p + i), first + i, nbmf_fp_keys + i / 4));
	return vaddvq_u64(sum);
}

static inline uint64_t
word_sum(const uint8_t *p, size_t len)
{
	uint8x16_t v;

	if (len > 16)
		return nbmf_fp_word_sum(p, len);
	v = vld1q_u8(p);
	v = vorrq_u8(v, vshrq_n_u8(vbicq_u8(vdupq_n_u8(0x80), v), 2));
	return vaddvq_u64(terms(v, nbmf_fp_first + 64 - len, nbmf_fp_keys)) + NBMF_FP_REST;
}

#include "codec/fingerprint_serial.h"

/* Which of 16 bytes are '"' or '\\', four bits for each */
static inline uint64_t
special_bytes(uint8x16_t v)
{
	uint8x16_t found = vorrq_u8(is_byte(v, '"'), is_byte(v, '\\'));

	return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(found), 4)), 0);
}

#define BLOCK 16

static inline size_t
plain_bytes(const uint8_t *p)
{
	uint64_t found = special_bytes(vld1q_u8(p));

	return found != 0 ? (size_t) __builtin_ctzll(found) / 4 : BLOCK;
}

#define BORROWERS_MIN 6

/* The upper bytes of 16 numbers times the factor */
static inline uint8x16_t
upper_bytes(const uint32_t *least, uint32_t factor)
{
	uint16x8_t half[2];

	for (unsigned i = 0; i < 2; i++)
	{
		uint32x4_t a = vmulq_n_u32(vld1q_u32(least + 8 * i), factor);
		uint32x4_t b = vmulq_n_u32(vld1q_u32(least + 8 * i + 4), factor);

		half[i] = vuzp2q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
	}
	return vuzp2q_u8(vreinterpretq_u8_u16(half[0]), vreinterpretq_u8_u16(half[1]));
}

static uint64_t
highest_bits(const uint32_t *least, uint32_t factor)
{
	const uint8x16_t half = vdupq_n_u8(0x80);

	return bits_of(vcgeq_u8(upper_bytes(least, factor), half),
				   vcgeq_u8(upper_bytes(least + 16, factor), half),
				   vcgeq_u8(upper_bytes(least + 32, factor), half),
				   vcgeq_u8(upper_bytes(least + 48, factor), half));
}

static inline uint64_t
full_bins(const uint32_t *least, uint64_t *full)
{
	*full = 0;
	for (unsigned i = 0; i < NBMF_FP_BINS; i++)
		*full |= (uint64_t) (least[i] != NBMF_FP_EMPTY) << i;
	return highest_bits(least, UINT32_C(1) << 31);
}

#define VECTOR_BLOCK nbmf_vector_block

#include "codec/fingerprint_code.h"

const NbmfFingerprintMethods nbmf_fp_neon = {add_features, fingerprint};

#endif /* NBMF_FP_NEON */
