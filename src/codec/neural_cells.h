/*
 * neural_cells.h
 *		What the inputs of the neural codec say: their symbols, levels and cells,
 *		and what is left of them when a symbol is excluded.
 *
 * The rules of neural_core.h hold here as well.
 */
#ifndef NBMF_NEURAL_CELLS_H
#define NBMF_NEURAL_CELLS_H

#include "codec/neural_context.h"

#include <string.h>

#if defined(NBMF_NEURAL_AVX2)
#include <immintrin.h>
#elif defined(NBMF_NEURAL_NEON)
#include "codec/neural_neon.h"
#endif

NEURAL_INLINE unsigned
neural_lowest(uint32_t mask)
{
#ifdef __GNUC__
	return (unsigned) __builtin_ctz(mask);
#else
	unsigned n = 0;

	while ((mask >> n & 1) == 0)
		n++;
	return n;
#endif
}

NEURAL_INLINE unsigned
neural_ones(uint32_t mask)
{
#ifdef NBMF_NEURAL_AVX2
	return (unsigned) __builtin_popcount(mask);
#else
	mask = mask - (mask >> 1 & 0x5555);
	mask = (mask & 0x3333) + (mask >> 2 & 0x3333);
	mask = (mask + (mask >> 4)) & 0x0f0f;
	return (mask + (mask >> 8)) & 31;
#endif
}

/* Inputs whose byte is c, as bits */
NEURAL_INLINE uint32_t
neural_equal(const uint8_t *bytes, uint8_t c)
{
#ifdef NBMF_NEURAL_AVX2
	return (uint32_t) _mm_movemask_epi8(_mm_cmpeq_epi8(
		_mm_loadu_si128((const __m128i *) (const void *) bytes), _mm_set1_epi8((char) c)));
#elif defined(NBMF_NEURAL_NEON)
	return neon_mask(vceqq_u8(vld1q_u8(bytes), vdupq_n_u8(c)));
#else
	uint32_t mask = 0;

	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
		mask |= (uint32_t) (bytes[i] == c) << i;
	return mask;
#endif
}

/* An input says nothing */
NEURAL_INLINE void
neural_clear(NeuralState *s, unsigned i)
{
	s->levels[i] = 0;
	s->cell[0][i] = s->cell[1][i] = s->cell[2][i] = s->cell[3][i] = 0;
}

/* What an input's first symbol is worth, which is all that the fast stage asks */
NEURAL_INLINE void
neural_set_first_cell(NeuralState *s, const NeuralImage *image, unsigned i)
{
	uint32_t levels = s->levels[i];

	s->cell[0][i] = (uint8_t) ((levels & 15) << 4 | image->rest[levels & 0xfff0]);
}

/*
 * Derive an input's cells from its symbols and levels.  A place that has no symbol
 * repeats another's, so that whichever of them is found, the answer is the same.
 */
NEURAL_INLINE void
neural_set_cells(NeuralState *s, const NeuralImage *image, unsigned i)
{
	uint32_t levels = s->levels[i];

	if (levels < 16)
	{
		s->symbol[1][i] = s->symbol[2][i] = s->symbol[0][i];
		s->cell[0][i] = s->cell[1][i] = s->cell[2][i] = (uint8_t) (levels << 4);
		s->cell[3][i] = (uint8_t) levels;
		return;
	}
	neural_set_first_cell(s, image, i);
	s->cell[1][i] = (uint8_t) ((levels & 0xf0) | image->rest[levels & 0xff0f]);
	s->cell[2][i] = (uint8_t) ((levels >> 4 & 0xf0) | image->rest[levels & 0xf0ff]);
	s->cell[3][i] = image->rest[levels];
	if ((levels & 0xf00) == 0)
	{
		s->symbol[2][i] = s->symbol[0][i];
		s->cell[2][i] = s->cell[0][i];
	}
	if ((levels & 0xf0) == 0)
	{
		s->symbol[1][i] = s->symbol[0][i];
		s->cell[1][i] = s->cell[0][i];
	}
}

#ifdef NBMF_NEURAL_AVX2
/* Level of each sum of levels' counts: nbmf_neural_level of 16-bit numbers, as bytes */
NEURAL_INLINE __m256i
neural_levels_of(__m256i a, __m256i b)
{
	const __m256i below16 =
		_mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 8, 8));
	const __m256i from16 = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 9, 11, 11, 12, 12, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13));
	const __m256i low = _mm256_set1_epi8(15);
	const __m256i nothing = _mm256_setzero_si256();
	const __m256i ten = _mm256_set1_epi8(23);
	__m256i x = _mm256_packus_epi16(a, b);
	__m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), low);
	__m256i small = _mm256_cmpeq_epi8(high, nothing);
	__m256i is_ten = _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_max_epu8(x, ten), x),
									  _mm256_cmpeq_epi8(high, _mm256_set1_epi8(1)));
	__m256i level = _mm256_blendv_epi8(_mm256_shuffle_epi8(from16, high),
									   _mm256_shuffle_epi8(below16, x), small);

	level = _mm256_sub_epi8(level, is_ten);
	for (int from = 256; from <= 512; from *= 2)
	{
		__m256i less = _mm256_set1_epi16((short) (from - 1));

		level = _mm256_sub_epi8(
			level, _mm256_packs_epi16(_mm256_cmpgt_epi16(a, less), _mm256_cmpgt_epi16(b, less)));
	}
	return level;
}

/* Count that each level stands for */
NEURAL_INLINE __m256i
neural_counts_of(__m256i levels)
{
	const __m256i low = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 1, 2, 3, 4, 5, 7, 10, 13, 19, 27, 45, 90, (char) 180, 104, 32));
	const __m256i high =
		_mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3));

	return _mm256_or_si256(_mm256_shuffle_epi8(low, levels),
						   _mm256_shuffle_epi8(high, _mm256_slli_epi16(levels, 8)));
}

/*
 * Cells of all contexts; those of matches are kept where the mask says so, and
 * cleared elsewhere.  The same as neural_set_cells of each context.
 */
NEURAL_INLINE void
neural_set_cells_avx2(NeuralState *s, __m256i levels, __m128i symbol0, __m128i symbol1,
					  __m128i symbol2, __m128i keep)
{
	const __m256i low = _mm256_set1_epi16(15);
	const __m256i nothing = _mm256_setzero_si256();
	__m256i level0 = _mm256_and_si256(levels, low);
	__m256i level1 = _mm256_and_si256(_mm256_srli_epi16(levels, 4), low);
	__m256i level2 = _mm256_and_si256(_mm256_srli_epi16(levels, 8), low);
	__m256i count0 = neural_counts_of(level0);
	__m256i count1 = neural_counts_of(level1);
	__m256i count2 = neural_counts_of(level2);
	__m256i all =
		_mm256_add_epi16(_mm256_add_epi16(count0, count1),
						 _mm256_add_epi16(count2, neural_counts_of(_mm256_srli_epi16(levels, 12))));
	__m256i cell01 = _mm256_or_si256(
		neural_levels_of(_mm256_sub_epi16(all, count0), _mm256_sub_epi16(all, count1)),
		_mm256_slli_epi16(_mm256_packus_epi16(level0, level1), 4));
	__m256i cell23 = _mm256_or_si256(neural_levels_of(_mm256_sub_epi16(all, count2), all),
									 _mm256_slli_epi16(_mm256_packus_epi16(level2, nothing), 4));
	__m256i none12 =
		_mm256_permute4x64_epi64(_mm256_packs_epi16(_mm256_cmpeq_epi16(level1, nothing),
													_mm256_cmpeq_epi16(level2, nothing)),
								 0xd8);
	__m128i none1 = _mm256_castsi256_si128(none12);
	__m128i none2 = _mm256_extracti128_si256(none12, 1);
	__m128i cell[4];

	cell01 = _mm256_permute4x64_epi64(cell01, 0xd8);
	cell23 = _mm256_permute4x64_epi64(cell23, 0xd8);
	cell[0] = _mm256_castsi256_si128(cell01);
	cell[1] = _mm_blendv_epi8(_mm256_extracti128_si256(cell01, 1), cell[0], none1);
	cell[2] = _mm_blendv_epi8(_mm256_castsi256_si128(cell23), cell[0], none2);
	cell[3] = _mm256_extracti128_si256(cell23, 1);
	for (unsigned k = 0; k < 4; k++)
	{
		__m128i *at = (__m128i *) (void *) s->cell[k];

		/* the levels of matches are 0, and so are their cells here */
		_mm_storeu_si128(at, _mm_or_si128(cell[k], _mm_and_si128(_mm_loadu_si128(at), keep)));
	}
	_mm256_storeu_si256((__m256i *) (void *) s->levels, levels);
	_mm_storeu_si128((__m128i *) (void *) s->symbol[0], symbol0);
	_mm_storeu_si128((__m128i *) (void *) s->symbol[1], _mm_blendv_epi8(symbol1, symbol0, none1));
	_mm_storeu_si128((__m128i *) (void *) s->symbol[2], _mm_blendv_epi8(symbol2, symbol0, none2));
}

/* Which contexts are found and guess, besides the matches that are kept */
NEURAL_INLINE void
neural_note_levels(NeuralState *s, __m256i levels, uint32_t matches)
{
	const __m256i nothing = _mm256_setzero_si256();
	__m256i first = _mm256_and_si256(levels, _mm256_set1_epi16(15));
	__m256i none = _mm256_permute4x64_epi64(
		_mm256_packs_epi16(_mm256_cmpeq_epi16(levels, nothing), _mm256_cmpeq_epi16(first, nothing)),
		0xd8);
	uint32_t mask = ~(uint32_t) _mm256_movemask_epi8(none);

	s->found = (s->found & matches) | (mask & NEURAL_CONTEXTS);
	s->guessing = (s->guessing & matches) | (mask >> 16 & NEURAL_CONTEXTS);
}
#endif

/* All contexts have their symbols and levels: which are found, and their cells */
NEURAL_INLINE void
neural_hear_all(NeuralState *s, const NeuralImage *image)
{
#ifdef NBMF_NEURAL_AVX2
	__m256i levels = _mm256_loadu_si256((const __m256i *) (const void *) s->levels);

	(void) image;
	neural_set_cells_avx2(s, levels, _mm_loadu_si128((const __m128i *) (const void *) s->symbol[0]),
						  _mm_loadu_si128((const __m128i *) (const void *) s->symbol[1]),
						  _mm_loadu_si128((const __m128i *) (const void *) s->symbol[2]),
						  _mm_setr_epi32(0xffff, 0, 0, 0));
	neural_note_levels(s, levels, 3);
#elif defined(NBMF_NEURAL_NEON)
	(void) image;
	neon_hear_all(s);
#else
	for (unsigned i = NEURAL_CONTEXT; i < NEURAL_CONTEXT_END; i++)
	{
		uint32_t levels = s->levels[i];

		if (levels == 0)
		{
			neural_clear(s, i);
			continue;
		}
		s->found |= 1u << i;
		s->guessing |= (uint32_t) ((levels & 15) != 0) << i;
		neural_set_cells(s, image, i);
	}
#endif
}

NEURAL_INLINE void
neural_note_excluded(NeuralState *s, uint8_t c)
{
	s->excluded |= (uint32_t) c << 8 * s->excluded_count++;
}

/*
 * The byte is not c: take c out of what every input says.  An input that has no
 * symbol left repeats c, which is never asked for again.
 */
NEURAL_INLINE void
neural_exclude(NeuralState *s, const NeuralImage *image, uint8_t c)
{
#ifdef NBMF_NEURAL_AVX2
	const __m128i symbol = _mm_set1_epi8((char) c);
	const __m256i others = _mm256_set1_epi16((short) 0xf000);
	__m256i levels = _mm256_loadu_si256((const __m256i *) (const void *) s->levels);
	__m128i symbol0 = _mm_loadu_si128((const __m128i *) (const void *) s->symbol[0]);
	__m128i symbol1 = _mm_loadu_si128((const __m128i *) (const void *) s->symbol[1]);
	__m128i symbol2 = _mm_loadu_si128((const __m128i *) (const void *) s->symbol[2]);
	__m128i is0 = _mm_cmpeq_epi8(symbol0, symbol);
	__m128i is1 = _mm_andnot_si128(is0, _mm_cmpeq_epi8(symbol1, symbol));
	__m128i is2 = _mm_andnot_si128(_mm_or_si128(is0, is1), _mm_cmpeq_epi8(symbol2, symbol));
	__m256i down = _mm256_srli_epi16(levels, 4);
	__m256i not0 = _mm256_or_si256(_mm256_and_si256(levels, others),
								   _mm256_and_si256(down, _mm256_set1_epi16(0x00ff)));
	__m256i not1 = _mm256_or_si256(_mm256_and_si256(levels, _mm256_set1_epi16((short) 0xf00f)),
								   _mm256_and_si256(down, _mm256_set1_epi16(0x00f0)));
	__m256i not2 = _mm256_and_si256(levels, _mm256_set1_epi16((short) 0xf0ff));
	uint32_t matches = 3 & ~(uint32_t) _mm_movemask_epi8(is0);

	(void) image;
	neural_note_excluded(s, c);
	levels = _mm256_blendv_epi8(levels, not0, _mm256_cvtepi8_epi16(is0));
	levels = _mm256_blendv_epi8(levels, not1, _mm256_cvtepi8_epi16(is1));
	levels = _mm256_blendv_epi8(levels, not2, _mm256_cvtepi8_epi16(is2));
	symbol0 = _mm_blendv_epi8(symbol0, symbol1, is0);
	symbol1 = _mm_blendv_epi8(symbol1, symbol2, _mm_or_si128(is0, is1));
	neural_set_cells_avx2(s, levels, symbol0, symbol1, symbol2,
						  _mm_andnot_si128(is0, _mm_setr_epi32(0xffff, 0, 0, 0)));
	neural_note_levels(s, levels, matches);
#elif defined(NBMF_NEURAL_NEON)
	(void) image;
	neural_note_excluded(s, c);
	neon_exclude(s, c);
#else
	uint32_t touched = neural_equal(s->symbol[0], c) | neural_equal(s->symbol[1], c) |
					   neural_equal(s->symbol[2], c);

	neural_note_excluded(s, c);
	for (touched &= s->found; touched != 0; touched &= touched - 1)
	{
		unsigned i = neural_lowest(touched);
		uint32_t levels = s->levels[i];

		if (levels >= 16)
		{
			if (s->symbol[0][i] == c)
			{
				levels = (levels & 0xf000) | (levels >> 4 & 0x0ff);
				s->symbol[0][i] = s->symbol[1][i];
				s->symbol[1][i] = s->symbol[2][i];
			}
			else if (s->symbol[1][i] == c)
			{
				levels = (levels & 0xf00f) | (levels >> 4 & 0x0f0);
				s->symbol[1][i] = s->symbol[2][i];
			}
			else
				levels &= 0xf0ff;
		}
		else
			levels = 0;
		if ((levels & 15) == 0)
		{
			s->symbol[0][i] = c;
			s->guessing &= ~(1u << i);
		}
		s->levels[i] = (uint16_t) levels;
		if (levels == 0)
		{
			s->found &= ~(1u << i);
			neural_clear(s, i);
		}
		else
			neural_set_cells(s, image, i);
	}
#endif
}

#endif /* NBMF_NEURAL_CELLS_H */
