/*
 * neural_neon.h
 *		What the neural codec does with vectors, for NEON; included by
 *		neural_cells.h where NBMF_NEURAL_NEON is defined.
 *
 * Each function gives what the plain code beside its call gives.  Levels are held as
 * two vectors of bytes, the lower and the upper ones, so that each nibble of sixteen
 * inputs is in one vector.
 */
#ifndef NBMF_NEURAL_NEON_H
#define NBMF_NEURAL_NEON_H

#include "codec/neural_context.h"

#include <arm_neon.h>

/* Bytes that are not 0 (they are 255), as bits */
NEURAL_INLINE uint32_t
neon_mask(uint8x16_t bytes)
{
	static const uint8_t bit_of[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
	uint8x16_t bits = vandq_u8(bytes, vld1q_u8(bit_of));

	return (uint32_t) vaddv_u8(vget_low_u8(bits)) | (uint32_t) vaddv_u8(vget_high_u8(bits)) << 8;
}

/*
 * Slot of a line that has this check; all of its eight are compared at once.  False
 * where there is none.
 */
NEURAL_INLINE bool
neon_slot(const uint8_t *line, uint16_t check, uint32_t *slot)
{
	uint16x8_t same = vceqq_u16(vreinterpretq_u16_u8(vld1q_u8(line)), vdupq_n_u16(check));
	uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(same)), 0);

	*slot = mask != 0 ? (uint32_t) __builtin_ctzll(mask) >> 3 : 0;
	return mask != 0;
}

NEURAL_INLINE int32_t
neon_dot(const int16_t *x, const int16_t *a, const int16_t *b, const int16_t *c)
{
	int16x8_t w0 = vaddq_s16(vaddq_s16(vld1q_s16(a), vld1q_s16(b)), vld1q_s16(c));
	int16x8_t w1 = vaddq_s16(vaddq_s16(vld1q_s16(a + 8), vld1q_s16(b + 8)), vld1q_s16(c + 8));
	int16x8_t x0 = vld1q_s16(x);
	int16x8_t x1 = vld1q_s16(x + 8);
	int32x4_t sum = vmull_s16(vget_low_s16(w0), vget_low_s16(x0));

	sum = vmlal_high_s16(sum, w0, x0);
	sum = vmlal_s16(sum, vget_low_s16(w1), vget_low_s16(x1));
	sum = vmlal_high_s16(sum, w1, x1);
	return vaddvq_s32(sum);
}

/* Cells of all inputs for symbol c; returns which of them are for it, as bits */
NEURAL_INLINE uint32_t
neon_cells_for(const NeuralState *s, uint8_t c, uint8_t *cells)
{
	const uint8x16_t symbol = vdupq_n_u8(c);
	uint8x16_t cell = vld1q_u8(s->cell[3]);

	for (unsigned k = 3; k-- > 0;)
		cell = vbslq_u8(vceqq_u8(symbol, vld1q_u8(s->symbol[k])), vld1q_u8(s->cell[k]), cell);
	vst1q_u8(cells, cell);
	return neon_mask(vcgtq_u8(vshrq_n_u8(cell, 4), vandq_u8(cell, vdupq_n_u8(15))));
}

/* Count that each level stands for, of the lower eight inputs and of the others */
NEURAL_INLINE uint16x8x2_t
neon_counts(uint8x16_t levels)
{
	static const uint8_t low[16] = {0, 1, 2, 3, 4, 5, 7, 10, 13, 19, 27, 45, 90, 180, 104, 32};
	static const uint8_t high[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3};
	uint8x16_t l = vqtbl1q_u8(vld1q_u8(low), levels);
	uint8x16_t h = vqtbl1q_u8(vld1q_u8(high), levels);
	uint16x8x2_t counts = {
		{vreinterpretq_u16_u8(vzip1q_u8(l, h)), vreinterpretq_u16_u8(vzip2q_u8(l, h))}};

	return counts;
}

/* Level of each sum of counts: nbmf_neural_level */
NEURAL_INLINE uint8x16_t
neon_levels(uint16x8_t a, uint16x8_t b)
{
	static const uint8_t below16[16] = {0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 8, 8};
	static const uint8_t from16[16] = {0,  9,  11, 11, 12, 12, 12, 12,
									   13, 13, 13, 13, 13, 13, 13, 13};
	uint8x16_t x = vcombine_u8(vqmovn_u16(a), vqmovn_u16(b));
	uint8x16_t high = vshrq_n_u8(x, 4);
	uint8x16_t level = vbslq_u8(vceqq_u8(high, vdupq_n_u8(0)), vqtbl1q_u8(vld1q_u8(below16), x),
								vqtbl1q_u8(vld1q_u8(from16), high));

	/* what is true is 255, of which the subtraction makes one more */
	level = vsubq_u8(level, vandq_u8(vcgeq_u8(x, vdupq_n_u8(23)), vceqq_u8(high, vdupq_n_u8(1))));
	for (uint16_t from = 256; from <= 512; from *= 2)
	{
		uint16x8_t least = vdupq_n_u16(from);

		level = vsubq_u8(
			level, vcombine_u8(vmovn_u16(vcgeq_u16(a, least)), vmovn_u16(vcgeq_u16(b, least))));
	}
	return level;
}

/*
 * Cells of all contexts from their levels; those of matches are kept where keep says
 * so, and cleared elsewhere.  Notes which contexts are found and guess besides the
 * matches, as bits, that do.
 */
NEURAL_INLINE void
neon_set_cells(NeuralState *s, uint8x16_t lower, uint8x16_t upper, uint8x16_t symbol0,
			   uint8x16_t symbol1, uint8x16_t symbol2, uint8x16_t keep, uint32_t matches)
{
	const uint8x16_t nibble = vdupq_n_u8(15);
	const uint8x16_t nothing = vdupq_n_u8(0);
	uint8x16_t level[3] = {vandq_u8(lower, nibble), vshrq_n_u8(lower, 4), vandq_u8(upper, nibble)};
	uint16x8x2_t all = neon_counts(vshrq_n_u8(upper, 4));
	uint16x8x2_t count[3];
	uint8x16_t cell[4];
	uint8x16_t none1 = vceqq_u8(level[1], nothing);
	uint8x16_t none2 = vceqq_u8(level[2], nothing);

	for (unsigned k = 0; k < 3; k++)
	{
		count[k] = neon_counts(level[k]);
		all.val[0] = vaddq_u16(all.val[0], count[k].val[0]);
		all.val[1] = vaddq_u16(all.val[1], count[k].val[1]);
	}
	for (unsigned k = 0; k < 3; k++)
		cell[k] = vorrq_u8(neon_levels(vsubq_u16(all.val[0], count[k].val[0]),
									   vsubq_u16(all.val[1], count[k].val[1])),
						   vshlq_n_u8(level[k], 4));
	cell[1] = vbslq_u8(none1, cell[0], cell[1]);
	cell[2] = vbslq_u8(none2, cell[0], cell[2]);
	cell[3] = neon_levels(all.val[0], all.val[1]);
	/* the levels of matches are 0, and so are their cells here */
	for (unsigned k = 0; k < 4; k++)
		vst1q_u8(s->cell[k], vorrq_u8(cell[k], vandq_u8(vld1q_u8(s->cell[k]), keep)));
	vst1q_u16(s->levels, vreinterpretq_u16_u8(vzip1q_u8(lower, upper)));
	vst1q_u16(s->levels + 8, vreinterpretq_u16_u8(vzip2q_u8(lower, upper)));
	vst1q_u8(s->symbol[0], symbol0);
	vst1q_u8(s->symbol[1], vbslq_u8(none1, symbol0, symbol1));
	vst1q_u8(s->symbol[2], vbslq_u8(none2, symbol0, symbol2));
	s->found = (s->found & matches) |
			   (neon_mask(vcgtq_u8(vorrq_u8(lower, upper), nothing)) & NEURAL_CONTEXTS);
	s->guessing =
		(s->guessing & matches) | (neon_mask(vcgtq_u8(level[0], nothing)) & NEURAL_CONTEXTS);
}

NEURAL_INLINE void
neon_load_levels(const NeuralState *s, uint8x16_t *lower, uint8x16_t *upper)
{
	uint8x16_t a = vreinterpretq_u8_u16(vld1q_u16(s->levels));
	uint8x16_t b = vreinterpretq_u8_u16(vld1q_u16(s->levels + 8));

	*lower = vuzp1q_u8(a, b);
	*upper = vuzp2q_u8(a, b);
}

/* Inputs that are matches */
NEURAL_INLINE uint8x16_t
neon_matches(void)
{
	return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0xffff), vcreate_u64(0)));
}

/* All contexts have their symbols and levels: which are found, and their cells */
NEURAL_INLINE void
neon_hear_all(NeuralState *s)
{
	uint8x16_t lower;
	uint8x16_t upper;

	neon_load_levels(s, &lower, &upper);
	neon_set_cells(s, lower, upper, vld1q_u8(s->symbol[0]), vld1q_u8(s->symbol[1]),
				   vld1q_u8(s->symbol[2]), neon_matches(), 3);
}

/* Take symbol c out of what every input says */
NEURAL_INLINE void
neon_exclude(NeuralState *s, uint8_t c)
{
	const uint8x16_t symbol = vdupq_n_u8(c);
	const uint8x16_t nibble = vdupq_n_u8(15);
	uint8x16_t symbol0 = vld1q_u8(s->symbol[0]);
	uint8x16_t symbol1 = vld1q_u8(s->symbol[1]);
	uint8x16_t symbol2 = vld1q_u8(s->symbol[2]);
	uint8x16_t is0 = vceqq_u8(symbol0, symbol);
	uint8x16_t is1 = vbicq_u8(vceqq_u8(symbol1, symbol), is0);
	uint8x16_t is2 = vbicq_u8(vceqq_u8(symbol2, symbol), vorrq_u8(is0, is1));
	uint8x16_t lower;
	uint8x16_t upper;
	uint8x16_t third;

	neon_load_levels(s, &lower, &upper);
	third = vshlq_n_u8(vandq_u8(upper, nibble), 4);
	lower = vbslq_u8(is0, vorrq_u8(vshrq_n_u8(lower, 4), third),
					 vbslq_u8(is1, vorrq_u8(vandq_u8(lower, nibble), third), lower));
	upper = vbslq_u8(vorrq_u8(is0, vorrq_u8(is1, is2)), vbicq_u8(upper, nibble), upper);
	symbol0 = vbslq_u8(is0, symbol1, symbol0);
	symbol1 = vbslq_u8(vorrq_u8(is0, is1), symbol2, symbol1);
	neon_set_cells(s, lower, upper, symbol0, symbol1, symbol2, vbicq_u8(neon_matches(), is0),
				   3 & ~neon_mask(is0));
}

/* Weights move by x * error / 2^14, within +-limit; coarse ones have so many bits less */
NEURAL_INLINE void
neon_move_weights(int32_t *fine, int16_t *coarse, const int16_t *x, int32_t error, int32_t limit,
				  int32_t bits)
{
	for (unsigned k = 0; k < NEURAL_INPUTS; k += 4)
	{
		int32x4_t w = vshrq_n_s32(vmulq_n_s32(vmovl_s16(vld1_s16(x + k)), error), 14);

		w = vaddq_s32(vld1q_s32(fine + k), w);
		w = vmaxq_s32(vminq_s32(w, vdupq_n_s32(limit)), vdupq_n_s32(-limit));
		vst1q_s32(fine + k, w);
		vst1_s16(coarse + k, vmovn_s32(vshlq_s32(w, vdupq_n_s32(-bits))));
	}
}

#endif /* NBMF_NEURAL_NEON_H */
