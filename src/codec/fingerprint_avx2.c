/*
 * fingerprint_avx2.c
 *		The fingerprint for processors with AVX2.
 *
 * Each function gives, bit for bit, what its portable counterpart gives; the
 * unit tests and the fuzzer compare them.  They are called only where the processor
 * has AVX2; the rest of the library is built for any processor.
 */
#include "codec/fingerprint.h"

#ifdef NBMF_FP_X86

#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#endif

static inline __m256i
load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *) p);
}

static inline uint64_t
bits_of(__m256i low, __m256i high)
{
	return (uint32_t) _mm256_movemask_epi8(low) | (uint64_t) (uint32_t) _mm256_movemask_epi8(high)
													  << 32;
}

/* 0xFF where the byte can be part of a word, C2 and E2 included */
static inline __m256i
is_word(__m256i v)
{
	/* a bit for each set of bytes: digits, @..O and `..o, P..Z and p..z, _, 0x80.. */
	const __m256i by_low = _mm256_setr_epi8(
		1 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16,
		1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 2 | 4 | 16, 2 | 16, 2 | 16,
		2 | 16, 2 | 16, 2 | 8 | 16, 1 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16,
		1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16, 1 | 2 | 4 | 16,
		1 | 2 | 4 | 16, 2 | 4 | 16, 2 | 16, 2 | 16, 2 | 16, 2 | 16, 2 | 8 | 16);
	const __m256i by_high =
		_mm256_setr_epi8(0, 0, 0, 1, 2, 4 | 8, 2, 4, 16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 1, 2,
						 4 | 8, 2, 4, 16, 16, 16, 16, 16, 16, 16, 16);
	const __m256i nibble = _mm256_set1_epi8(0x0F);
	__m256i low = _mm256_shuffle_epi8(by_low, _mm256_and_si256(v, nibble));
	__m256i high = _mm256_shuffle_epi8(by_high, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));

	return _mm256_cmpgt_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256());
}

static inline __m256i
is_byte(__m256i v, int c)
{
	return _mm256_cmpeq_epi8(v, _mm256_set1_epi8((char) c));
}

/* E3 to E9, EF */
static inline __m256i
is_lead(__m256i v)
{
	__m256i from_e3 = _mm256_sub_epi8(v, _mm256_set1_epi8((char) 0xE3));
	__m256i in_range = _mm256_cmpeq_epi8(_mm256_min_epu8(from_e3, _mm256_set1_epi8(6)), from_e3);

	return _mm256_or_si256(in_range, is_byte(v, 0xEF));
}

static inline NbmfMasks
block_masks(const uint8_t *p, uint64_t within)
{
	__m256i v0 = load(p);
	__m256i v1 = load(p + 32);
	NbmfMasks masks = {bits_of(is_word(v0), is_word(v1)) & within, 0, 0, 0};

	if (_mm256_movemask_epi8(_mm256_or_si256(v0, v1)) != 0)
	{
		masks.two = bits_of(is_byte(v0, 0xC2), is_byte(v1, 0xC2)) & within;
		masks.three = bits_of(is_byte(v0, 0xE2), is_byte(v1, 0xE2)) & within;
		masks.lead = bits_of(is_lead(v0), is_lead(v1)) & within;
		masks.word &= ~(masks.two | masks.three);
	}
	return masks;
}

/* Four at a time, so that the number of rounds is easily guessed */
static inline size_t
put_marks(uint64_t bits, unsigned base, uint16_t *marks)
{
	size_t n = (size_t) _mm_popcnt_u64(bits);

	for (; bits != 0; marks += 4)
		for (unsigned i = 0; i < 4; i++)
		{
			marks[i] = (uint16_t) (base + (unsigned) _tzcnt_u64(bits));
			bits = _blsr_u64(bits);
		}
	return n;
}

static inline __m256i
two_of(const uint8_t *low, const uint8_t *high)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *) low)),
								   _mm_loadu_si128((const __m128i *) high), 1);
}

/* What 16 bytes add to the sum of a run, as two terms: twice */
static inline __m256i
terms(__m256i v)
{
	const __m128i keys = _mm_loadu_si128((const __m128i *) nbmf_fp_keys);

	v = _mm256_add_epi32(v, _mm256_broadcastsi128_si256(keys));
	return _mm256_mul_epu32(v, _mm256_shuffle_epi32(v, 0xF5));
}

/* The two terms of each of two words' first 16 bytes */
static inline __m256i
word_terms(const uint8_t *p, const uint16_t *marks)
{
	const uint8_t *first = nbmf_fp_first + 64;
	__m256i v = two_of(p + marks[0], p + marks[2]);
	__m256i mask = two_of(first + marks[0] - marks[1], first + marks[2] - marks[3]);
	__m256i ascii = _mm256_andnot_si256(v, _mm256_set1_epi8((char) 0x80));

	v = _mm256_or_si256(v, _mm256_srli_epi16(ascii, 2));
	return terms(_mm256_and_si256(v, mask));
}

static inline __m256i
fold(__m256i v)
{
	return _mm256_xor_si256(v, _mm256_srli_epi64(v, 32));
}

static inline __m256i
join(__m256i a, __m256i b, uint32_t a_key, uint32_t b_key)
{
	a = _mm256_xor_si256(a, _mm256_set1_epi64x(a_key));
	b = _mm256_xor_si256(b, _mm256_set1_epi64x(b_key));
	return fold(_mm256_mul_epu32(a, b));
}

#define WORDS 4 /* at a time */

typedef __m256i Lanes;

static inline Lanes
all_lanes(uint64_t x)
{
	return _mm256_set1_epi64x((long long) x);
}

static inline Lanes
load_lanes(const uint64_t *p)
{
	return _mm256_loadu_si256((const __m256i *) p);
}

static inline void
store_lanes(uint64_t *p, Lanes v)
{
	_mm256_storeu_si256((__m256i *) p, v);
}

static inline Lanes
later(Lanes v, Lanes before)
{
	return _mm256_alignr_epi8(v, _mm256_permute2x128_si256(before, v, 0x21), 8);
}

/* Sums of the four words that are at marks, in this order */
static inline __m256i
word_sums(const uint8_t *p, const uint16_t *marks)
{
	__m256i a = word_terms(p, marks);     /* words 0 and 1 */
	__m256i b = word_terms(p, marks + 4); /* 2 and 3 */
	__m256i sums = _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));

	sums = _mm256_add_epi64(sums, _mm256_set1_epi64x((long long) NBMF_FP_REST));
	return _mm256_permute4x64_epi64(sums, 0xD8);
}

/* Is any of four words longer than 16 bytes? */
static inline bool
any_long(const uint16_t *marks)
{
	__m128i m = _mm_loadu_si128((const __m128i *) marks);
	__m128i lens = _mm_sub_epi16(_mm_srli_epi32(m, 16), m); /* in the even ones, others below */

	return _mm_movemask_epi8(_mm_cmpgt_epi16(lens, _mm_set1_epi16(16))) != 0;
}

static inline void
put_both(Lanes pair, Lanes triple, uint32_t *to)
{
	triple = _mm256_slli_epi64(triple, 32);
	_mm256_storeu_si256((__m256i *) to, _mm256_blend_epi32(pair, triple, 0xAA));
}

static inline void
put_one(Lanes triple, uint32_t *to)
{
	const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);

	triple = _mm256_permutevar8x32_epi32(triple, even);
	_mm_storeu_si128((__m128i *) to, _mm256_castsi256_si128(triple));
}

#include "codec/fingerprint_lanes.h"

#define BLOCK 32

static inline size_t
plain_bytes(const uint8_t *p)
{
	__m256i v = load(p);
	__m256i found = _mm256_or_si256(is_byte(v, '"'), is_byte(v, '\\'));

	return _tzcnt_u32((uint32_t) _mm256_movemask_epi8(found));
}

/* 32 bytes of a run as terms of its sum */
static inline __m256i
run_terms(const uint8_t *p, const uint8_t *mask, const uint32_t *keys)
{
	__m256i v = _mm256_add_epi32(_mm256_and_si256(load(p), load(mask)),
								 _mm256_loadu_si256((const __m256i *) keys));

	return _mm256_mul_epu32(v, _mm256_shuffle_epi32(v, 0xF5));
}

static inline uint64_t
sum_64(const uint8_t *p, size_t len)
{
	const uint8_t *first = nbmf_fp_first + 64 - len;
	__m128i sum;

	if (len <= 16)
	{
		__m128i keys = _mm_loadu_si128((const __m128i *) nbmf_fp_keys);
		__m128i v = _mm_loadu_si128((const __m128i *) p);

		v = _mm_add_epi32(_mm_and_si128(v, _mm_loadu_si128((const __m128i *) first)), keys);
		sum = _mm_mul_epu32(v, _mm_shuffle_epi32(v, 0xF5));
		sum = _mm_add_epi64(sum, _mm_cvtsi64_si128((long long) NBMF_FP_REST));
	}
	else
	{
		__m256i all = _mm256_add_epi64(run_terms(p, first, nbmf_fp_keys),
									   run_terms(p + 32, first + 32, nbmf_fp_keys + 8));

		sum = _mm_add_epi64(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
	}
	return (uint64_t) _mm_cvtsi128_si64(sum) + (uint64_t) _mm_extract_epi64(sum, 1);
}

/* The highest bits of 32 numbers, each of them multiplied */
static inline uint64_t
highest_32(const uint32_t *p, __m256i factor)
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	__m256i v[4];

	for (unsigned i = 0; i < 4; i++)
		v[i] = _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *) (p + 8 * i)), factor);
	v[0] = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
	return (uint32_t) _mm256_movemask_epi8(_mm256_permutevar8x32_epi32(v[0], order));
}

#define BORROWERS_MIN 6

static inline uint64_t
highest_bits(const uint32_t *least, uint32_t factor)
{
	__m256i f = _mm256_set1_epi32((int) factor);

	return highest_32(least, f) | highest_32(least + 32, f) << 32;
}

static inline uint64_t
full_bins(const uint32_t *least, uint64_t *full)
{
	uint64_t bits = 0;
	uint64_t empty = 0;

	for (unsigned i = 0; i < NBMF_FP_BINS; i += 8)
	{
		__m256i v = _mm256_loadu_si256((const __m256i *) (least + i));
		__m256i ones = _mm256_cmpeq_epi32(v, _mm256_set1_epi32(-1));
		__m256i lowest = _mm256_slli_epi32(v, 31);

		bits |= (uint64_t) (unsigned) _mm256_movemask_ps(_mm256_castsi256_ps(lowest)) << i;
		empty |= (uint64_t) (unsigned) _mm256_movemask_ps(_mm256_castsi256_ps(ones)) << i;
	}
	*full = ~empty;
	return bits;
}

#define VECTOR_BLOCK nbmf_vector_block_avx2

#include "codec/fingerprint_code.h"

const NbmfFingerprintMethods nbmf_fp_avx2 = {add_features, fingerprint};

/* Eight numbers, negated where the bits of signs are 1 */
static inline __m256i
negate(__m256i v, unsigned signs)
{
	const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	__m256i picked = _mm256_and_si256(_mm256_set1_epi32((int) signs), select);
	__m256i minus = _mm256_cmpeq_epi32(picked, select);

	return _mm256_sub_epi32(_mm256_xor_si256(v, minus), minus);
}

/* Sums and differences of 1, 2 and 4 apart, within eight numbers */
static inline __m256i
hadamard_8(__m256i v)
{
	const __m256i by_1 = _mm256_setr_epi32(1, -1, 1, -1, 1, -1, 1, -1);
	const __m256i by_2 = _mm256_setr_epi32(1, 1, -1, -1, 1, 1, -1, -1);
	const __m256i by_4 = _mm256_setr_epi32(1, 1, 1, 1, -1, -1, -1, -1);

	v = _mm256_add_epi32(_mm256_shuffle_epi32(v, 0xB1), _mm256_sign_epi32(v, by_1));
	v = _mm256_add_epi32(_mm256_shuffle_epi32(v, 0x4E), _mm256_sign_epi32(v, by_2));
	return _mm256_add_epi32(_mm256_permute2x128_si256(v, v, 1), _mm256_sign_epi32(v, by_4));
}

/* signs: two words for before the first transform, two for before the second */
void
nbmf_vector_block_avx2(int32_t *q, const uint64_t *signs, int64_t *sums)
{
	__m256i v[16];

	for (unsigned i = 0; i < 16; i++)
		v[i] = _mm256_loadu_si256((const __m256i *) (q + 8 * i));
	for (unsigned round = 0; round < 2; round++)
	{
		const uint64_t *s = signs + 2 * round;

		for (unsigned i = 0; i < 16; i++)
			v[i] = hadamard_8(negate(v[i], (unsigned) (s[i / 8] >> (8 * (i % 8))) & 0xFF));
		for (unsigned apart = 1; apart < 16; apart *= 2)
			for (unsigned i = 0; i < 16; i++)
				if ((i & apart) == 0)
				{
					__m256i a = v[i];
					__m256i b = v[i + apart];

					v[i] = _mm256_add_epi32(a, b);
					v[i + apart] = _mm256_sub_epi32(a, b);
				}
	}
	for (unsigned i = 0; i < 16; i++)
	{
		__m256i *at = (__m256i *) (sums + 8 * i);
		__m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v[i]));
		__m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v[i], 1));

		_mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), low));
		_mm256_storeu_si256(at + 1, _mm256_add_epi64(_mm256_loadu_si256(at + 1), high));
	}
}

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif /* NBMF_FP_X86 */
