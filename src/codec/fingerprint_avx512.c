/*
 * fingerprint_avx512.c
 *		The fingerprint for processors with AVX-512 and its instructions for bytes
 *		(VBMI2: from Ice Lake and Zen 4 on).
 *
 * The same functions as in fingerprint_avx2.c; see there.
 */
#include "codec/fingerprint.h"

#ifdef NBMF_FP_X86

#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,popcnt,avx512f,avx512bw,"       \
												   "avx512dq,avx512vl,avx512vbmi,avx512vbmi2"))), \
							 apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")
#endif

static inline __mmask64
is_byte(__m512i v, int c)
{
	return _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8((char) c));
}

static inline NbmfMasks
block_masks(const uint8_t *p, uint64_t within)
{
	__m512i v = _mm512_loadu_si512(p);
	/* of ASCII; what is beyond gets that of another byte */
	__m512i class = _mm512_permutex2var_epi8(_mm512_loadu_si512(nbmf_fp_class), v,
											 _mm512_loadu_si512(nbmf_fp_class + 64));
	uint64_t beyond = _mm512_movepi8_mask(v);
	NbmfMasks masks = {(is_byte(class, NBMF_FP_PART) | beyond) & within, 0, 0, 0};

	if ((beyond & within) != 0)
	{
		/* E3 to E9, EF */
		__m512i from_e3 = _mm512_sub_epi8(v, _mm512_set1_epi8((char) 0xE3));
		uint64_t lead = _mm512_cmplt_epu8_mask(from_e3, _mm512_set1_epi8(7)) | is_byte(v, 0xEF);

		masks.two = is_byte(v, 0xC2) & within;
		masks.three = is_byte(v, 0xE2) & within;
		masks.lead = lead & within;
		masks.word &= ~(masks.two | masks.three);
	}
	return masks;
}

static inline __m512i
numbers(void)
{
	static const uint8_t from_0[64] = {
		0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
		22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
		44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

	return _mm512_loadu_si512(from_0);
}

static inline size_t
put_marks(uint64_t bits, unsigned base, uint16_t *marks)
{
	size_t n = (size_t) _mm_popcnt_u64(bits);
	__m512i at = _mm512_maskz_compress_epi8(bits, numbers());
	__m512i by = _mm512_set1_epi16((short) base);
	__m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(at));

	_mm512_storeu_si512(marks, _mm512_add_epi16(low, by));
	if (n > 32)
	{
		__m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(at, 1));

		_mm512_storeu_si512(marks + 32, _mm512_add_epi16(high, by));
	}
	return n;
}

#define WORDS 8 /* at a time */

typedef __m512i Lanes;

static inline Lanes
all_lanes(uint64_t x)
{
	return _mm512_set1_epi64((long long) x);
}

static inline Lanes
load_lanes(const uint64_t *p)
{
	return _mm512_loadu_si512(p);
}

static inline void
store_lanes(uint64_t *p, Lanes v)
{
	_mm512_storeu_si512(p, v);
}

static inline Lanes
later(Lanes v, Lanes before)
{
	return _mm512_alignr_epi64(v, before, 7);
}

static inline __m512i
insert(__m512i v, const uint8_t *p, const int at)
{
	__m128i x = _mm_loadu_si128((const __m128i *) p);

	switch (at)
	{
		case 1:
			return _mm512_inserti32x4(v, x, 1);
		case 2:
			return _mm512_inserti32x4(v, x, 2);
		default:
			return _mm512_inserti32x4(v, x, 3);
	}
}

/* The two terms of each of four words' first 16 bytes */
static inline __m512i
word_terms(const uint8_t *p, const uint16_t *marks)
{
	static const uint8_t lane_of[64] = {
		0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  4,  4,  4,  4, 4, 4,
		4, 4, 4, 4, 4,  4,  4,  4,  4,  4,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8, 8, 8,
		8, 8, 8, 8, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12};
	static const uint8_t byte_of[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	__m128i m = _mm_loadu_si128((const __m128i *) marks);
	__m512i lens = _mm512_castsi128_si512(_mm_sub_epi16(_mm_srli_epi32(m, 16), m));
	__m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) byte_of));
	__m512i keys = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) nbmf_fp_keys));
	__m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) (p + marks[0])));
	__m512i ascii;

	v = insert(v, p + marks[2], 1);
	v = insert(v, p + marks[4], 2);
	v = insert(v, p + marks[6], 3);
	lens = _mm512_permutexvar_epi8(_mm512_loadu_si512(lane_of), lens);
	ascii = _mm512_andnot_si512(v, _mm512_set1_epi8((char) 0x80));
	v = _mm512_or_si512(v, _mm512_srli_epi16(ascii, 2));
	v = _mm512_maskz_mov_epi8(_mm512_cmplt_epu8_mask(bytes, lens), v);
	v = _mm512_add_epi32(v, keys);
	return _mm512_mul_epu32(v, _mm512_shuffle_epi32(v, (_MM_PERM_ENUM) 0xF5));
}

static inline __m512i
fold(__m512i v)
{
	return _mm512_xor_si512(v, _mm512_srli_epi64(v, 32));
}

static inline __m512i
join(__m512i a, __m512i b, uint32_t a_key, uint32_t b_key)
{
	a = _mm512_xor_si512(a, _mm512_set1_epi64(a_key));
	b = _mm512_xor_si512(b, _mm512_set1_epi64(b_key));
	return fold(_mm512_mul_epu32(a, b));
}

/* Sums of the eight words that are at marks, in this order */
static inline __m512i
word_sums(const uint8_t *p, const uint16_t *marks)
{
	const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
	__m512i a = word_terms(p, marks);
	__m512i b = word_terms(p, marks + 8);
	__m512i sums = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));

	sums = _mm512_add_epi64(sums, _mm512_set1_epi64((long long) NBMF_FP_REST));
	return _mm512_permutexvar_epi64(order, sums);
}

/* Is any of eight words longer than 16 bytes? */
static inline bool
any_long(const uint16_t *marks)
{
	__m256i m = _mm256_loadu_si256((const __m256i *) marks);
	__m256i lens = _mm256_sub_epi16(_mm256_srli_epi32(m, 16), m); /* in the even ones */

	return (_mm256_cmpgt_epi16_mask(lens, _mm256_set1_epi16(16)) & 0x5555) != 0;
}

static inline void
put_both(Lanes pair, Lanes triple, uint32_t *to)
{
	triple = _mm512_slli_epi64(triple, 32);
	_mm512_storeu_si512(to, _mm512_mask_blend_epi32(0xAAAA, pair, triple));
}

static inline void
put_one(Lanes triple, uint32_t *to)
{
	_mm256_storeu_si256((__m256i *) to, _mm512_cvtepi64_epi32(triple));
}

#include "codec/fingerprint_lanes.h"

#define BLOCK 64

static inline size_t
plain_bytes(const uint8_t *p)
{
	__m512i v = _mm512_loadu_si512(p);

	return _tzcnt_u64(is_byte(v, '"') | is_byte(v, '\\'));
}

static inline uint64_t
sum_64(const uint8_t *p, size_t len)
{
	__m128i sum;

	if (len <= 16)
	{
		__m128i v = _mm_maskz_loadu_epi8((__mmask16) nbmf_fp_lowest(len), p);

		v = _mm_add_epi32(v, _mm_loadu_si128((const __m128i *) nbmf_fp_keys));
		sum = _mm_mul_epu32(v, _mm_shuffle_epi32(v, 0xF5));
		sum = _mm_add_epi64(sum, _mm_cvtsi64_si128((long long) NBMF_FP_REST));
	}
	else
	{
		__m512i v = _mm512_maskz_loadu_epi8(nbmf_fp_lowest(len), p);
		__m256i half;

		v = _mm512_add_epi32(v, _mm512_loadu_si512(nbmf_fp_keys));
		v = _mm512_mul_epu32(v, _mm512_shuffle_epi32(v, (_MM_PERM_ENUM) 0xF5));
		half = _mm256_add_epi64(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
		sum = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
	}
	return (uint64_t) _mm_cvtsi128_si64(sum) + (uint64_t) _mm_extract_epi64(sum, 1);
}

#define BORROWERS_MIN 4

static inline uint64_t
highest_bits(const uint32_t *least, uint32_t factor)
{
	const __m512i f = _mm512_set1_epi32((int) factor);
	uint64_t bits = 0;

	for (unsigned i = 0; i < NBMF_FP_BINS; i += 16)
	{
		__m512i v = _mm512_mullo_epi32(_mm512_loadu_si512(least + i), f);

		bits |= (uint64_t) _mm512_movepi32_mask(v) << i;
	}
	return bits;
}

static inline uint64_t
full_bins(const uint32_t *least, uint64_t *full)
{
	uint64_t bits = 0;

	*full = 0;
	for (unsigned i = 0; i < NBMF_FP_BINS; i += 16)
	{
		__m512i v = _mm512_loadu_si512(least + i);

		bits |= (uint64_t) _mm512_test_epi32_mask(v, _mm512_set1_epi32(1)) << i;
		*full |= (uint64_t) _mm512_cmpneq_epi32_mask(v, _mm512_set1_epi32(-1)) << i;
	}
	return bits;
}

#define VECTOR_BLOCK nbmf_vector_block_avx2

#include "codec/fingerprint_code.h"

const NbmfFingerprintMethods nbmf_fp_avx512 = {add_features, fingerprint};

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif /* NBMF_FP_X86 */
