/*
 * fingerprint_avx2.c
 *		The parts of the fingerprint that AVX2 does faster.
 *
 * Each function gives, bit for bit, what its portable counterpart gives; the
 * unit tests and the fuzzer compare them.  They are called only where
 * nbmf_fp_simd says so; the rest of the library is built for any processor.
 */
#include "codec/fingerprint.h"

#ifdef NBMF_FP_AVX2

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi")))

static inline AVX2 uint64_t
bits_of(__m256i low, __m256i high)
{
	return (uint32_t) _mm256_movemask_epi8(low) | (uint64_t) (uint32_t) _mm256_movemask_epi8(high)
													  << 32;
}

/* 0xFF where the byte can be part of a word, C2 and E2 included */
static inline AVX2 __m256i
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

static inline AVX2 __m256i
is_byte(__m256i v, int c)
{
	return _mm256_cmpeq_epi8(v, _mm256_set1_epi8((char) c));
}

/* E3 to E9, EF */
static inline AVX2 __m256i
is_lead(__m256i v)
{
	__m256i from_e3 = _mm256_sub_epi8(v, _mm256_set1_epi8((char) 0xE3));
	__m256i in_range = _mm256_cmpeq_epi8(_mm256_min_epu8(from_e3, _mm256_set1_epi8(6)), from_e3);

	return _mm256_or_si256(in_range, is_byte(v, 0xEF));
}

static inline AVX2 __m256i
lower(__m256i v)
{
	__m256i capital = _mm256_and_si256(_mm256_cmpgt_epi8(v, _mm256_set1_epi8('A' - 1)),
									   _mm256_cmpgt_epi8(_mm256_set1_epi8('Z' + 1), v));

	return _mm256_or_si256(v, _mm256_and_si256(capital, _mm256_set1_epi8(0x20)));
}

/* Of at most 32 bytes, where 32 can be read; what is not ASCII may be more words */
AVX2 bool
nbmf_is_single_word_avx2(const uint8_t *p, size_t len)
{
	__m256i v = _mm256_loadu_si256((const __m256i *) p);
	uint32_t part = (uint32_t) _mm256_movemask_epi8(_mm256_andnot_si256(v, is_word(v)));

	return ((uint64_t) ~part << (32 - len) & 0xFFFFFFFF) == 0;
}

AVX2 size_t
nbmf_words_scan_avx2(uint8_t *buf, size_t blocks, NbmfCarry carry, uint16_t *marks)
{
	uint64_t last = 0;
	size_t n = 0;

	for (size_t b = 0; b < blocks; b++)
	{
		__m256i *at = (__m256i *) (buf + 64 * b);
		__m256i v0 = _mm256_loadu_si256(at);
		__m256i v1 = _mm256_loadu_si256(at + 1);
		uint64_t word = bits_of(is_word(v0), is_word(v1));
		uint64_t two = 0;
		uint64_t three = 0;
		uint64_t lead = 0;

		if (_mm256_movemask_epi8(_mm256_or_si256(v0, v1)) != 0)
		{
			two = bits_of(is_byte(v0, 0xC2), is_byte(v1, 0xC2));
			three = bits_of(is_byte(v0, 0xE2), is_byte(v1, 0xE2));
			lead = bits_of(is_lead(v0), is_lead(v1));
		}
		n += nbmf_words_mark(word & ~(two | three), two, three, lead, (unsigned) (64 * b), &carry,
							 &last, marks + n);
		_mm256_storeu_si256(at, lower(v0));
		_mm256_storeu_si256(at + 1, lower(v1));
	}
	return n;
}

/* The lowest bit of each of 64 numbers; full: which of them are not all ones */
AVX2 uint64_t
nbmf_bins_read_avx2(const uint64_t *least, uint64_t *full)
{
	uint64_t bits = 0;
	uint64_t empty = 0;

	for (unsigned i = 0; i < 64; i += 4)
	{
		__m256i v = _mm256_loadu_si256((const __m256i *) (least + i));
		__m256i ones = _mm256_cmpeq_epi64(v, _mm256_set1_epi64x(-1));
		__m256i lowest = _mm256_slli_epi64(v, 63);

		bits |= (uint64_t) (unsigned) _mm256_movemask_pd(_mm256_castsi256_pd(lowest)) << i;
		empty |= (uint64_t) (unsigned) _mm256_movemask_pd(_mm256_castsi256_pd(ones)) << i;
	}
	*full = ~empty;
	return bits;
}

/* Eight numbers, negated where the bits of signs are 1 */
static inline AVX2 __m256i
negate(__m256i v, unsigned signs)
{
	const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	__m256i picked = _mm256_and_si256(_mm256_set1_epi32((int) signs), select);
	__m256i minus = _mm256_cmpeq_epi32(picked, select);

	return _mm256_sub_epi32(_mm256_xor_si256(v, minus), minus);
}

/* Sums and differences of 1, 2 and 4 apart, within eight numbers */
static inline AVX2 __m256i
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
AVX2 void
nbmf_vector_block_avx2(const int32_t *q, const uint64_t *signs, int64_t *sums)
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

#endif /* NBMF_FP_AVX2 */
