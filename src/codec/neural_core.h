/*
 * neural_core.h
 *		The arithmetic of the neural codec: contexts, evidence, mixing, and the
 *		coding of one symbol.
 *
 * Everything that both sides of a frame must compute alike is in this file, once:
 * it is included by the coder for plain C, by the coder for AVX2, and by the
 * trainer.  It calls nothing but memcpy, allocates nothing, does not recurse, and
 * uses integers only, so that a compiler for another device can take it as it is.
 * Whatever is changed here changes the format; docs/format.md describes it.
 */
#ifndef NBMF_NEURAL_CORE_H
#define NBMF_NEURAL_CORE_H

#include "codec/neural.h"

#include <string.h>

#ifdef NBMF_NEURAL_AVX2
#include <immintrin.h>
#endif

#define NEURAL_INLINE static inline __attribute__((always_inline, unused))

/* Which table of evidence and weights a decision uses */
#define STAGE_FAST  0 /* few contexts, all of one mind */
#define STAGE_FIRST 1 /* all contexts, nothing excluded yet */
#define STAGE_AGAIN 2 /* all contexts, after a wrong guess */

/* Logits are natural logarithms of odds times 256, within +-LOGIT_MAX */
#define LOGIT_MAX 2815

/* The fast decision is taken where it is at least so sure */
#define FAST_LOGIT 1000

/* Later guesses must be at least so likely, or the escape is taken */
#define AGAIN_LOGIT (-700)

/* Wrong guesses before the escape */
#define GUESSES 3

/* Different guesses that are weighed against each other */
#define CANDIDATES          6

#define WEIGHT_SHIFT        12
#define ESCAPE_WEIGHT_SHIFT 12
#define ESCAPE_STEP         22

/* Probability, of 65536, that the end mark is the end and not a byte */
#define END_PROBABILITY 65472

/* Weights and evidence of one decision, and where they came from */
typedef struct NeuralDecision
{
	int16_t x[NEURAL_INPUTS];
	int16_t cell[NEURAL_EVIDENCE]; /* index into evidence[stage][input], or -1 */
	const int16_t *weights[3];
	int32_t logit;
	uint8_t symbol;
} NeuralDecision;

/*
 * 65536 / (1 + exp(-x / 256)) for x = -2816, -2784 .. 2816, between which
 * neural_squash goes straight.
 */
static const uint16_t neural_squash_points[178] = {
	1,     1,     1,     2,     2,     2,     2,     3,     3,     3,     4,     4,     5,
	6,     6,     7,     8,     9,     10,    12,    13,    15,    17,    19,    22,    25,
	28,    32,    36,    41,    47,    53,    60,    68,    77,    87,    98,    111,   126,
	143,   162,   184,   208,   236,   267,   302,   342,   387,   439,   497,   562,   636,
	720,   815,   922,   1042,  1179,  1333,  1506,  1701,  1921,  2168,  2446,  2758,  3108,
	3500,  3938,  4427,  4971,  5577,  6249,  6992,  7812,  8714,  9702,  10782, 11955, 13226,
	14595, 16062, 17625, 19282, 21025, 22849, 24743, 26695, 28693, 30723, 32768, 34813, 36843,
	38841, 40793, 42687, 44511, 46254, 47911, 49474, 50941, 52310, 53581, 54754, 55834, 56822,
	57724, 58544, 59287, 59959, 60565, 61109, 61598, 62036, 62428, 62778, 63090, 63368, 63615,
	63835, 64030, 64203, 64357, 64494, 64614, 64721, 64816, 64900, 64974, 65039, 65097, 65149,
	65194, 65234, 65269, 65300, 65328, 65352, 65374, 65393, 65410, 65425, 65438, 65449, 65459,
	65468, 65476, 65483, 65489, 65495, 65500, 65504, 65508, 65511, 65514, 65517, 65519, 65521,
	65523, 65524, 65526, 65527, 65528, 65529, 65530, 65530, 65531, 65532, 65532, 65533, 65533,
	65533, 65534, 65534, 65534, 65534, 65535, 65535, 65535, 65535};

NEURAL_INLINE uint32_t
neural_squash(int32_t x)
{
	uint32_t at;
	uint32_t low;
	uint32_t part;

	if (x > LOGIT_MAX)
		x = LOGIT_MAX;
	if (x < -LOGIT_MAX)
		x = -LOGIT_MAX;
	at = (uint32_t) (x + 2816);
	part = at & 31;
	low = neural_squash_points[at >> 5];
	return low + (((uint32_t) neural_squash_points[(at >> 5) + 1] - low) * part >> 5);
}

NEURAL_INLINE uint64_t
neural_mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b * UINT64_C(0xD6E8FEB86659FD93))) * UINT64_C(0x9E3779B97F4A7C15);

	return x ^ (x >> 29);
}

NEURAL_INLINE uint32_t
neural_hash32(uint64_t x)
{
	return (uint32_t) ((x * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

/* Add a byte to a running hash */
NEURAL_INLINE uint32_t
neural_roll(uint32_t hash, uint8_t c)
{
	return neural_hash32(((uint64_t) hash << 9) + c + 7);
}

/* ----- what is known before a byte ----- */

NEURAL_INLINE uint8_t
neural_byte_at(const NeuralState *s, uint32_t at)
{
	return at < s->history_len ? s->history[at] : s->content[at - s->history_len];
}

NEURAL_INLINE uint32_t
neural_match_key(const NeuralState *s, unsigned m)
{
	uint64_t mask = m == 0 ? UINT64_C(0xffffffffffff) : UINT64_C(0xffffff);

	return neural_hash32(neural_mix(s->recent[0] & mask, m + 3)) >> (32 - NEURAL_MATCH_BITS);
}

/*
 * A new document: the state of the one before must not be seen.  The match
 * tables are not cleared; what is not above s->base is of another document.
 */
NEURAL_INLINE void
neural_begin(NeuralState *s, const uint8_t *history, size_t history_len, const uint8_t *content)
{
	if (history_len > NEURAL_HISTORY_MAX)
	{
		history += history_len - NEURAL_HISTORY_MAX;
		history_len = NEURAL_HISTORY_MAX;
	}
	if (s->base > UINT32_C(0x80000000) - NEURAL_HISTORY_MAX)
	{
		memset(s->match_table, 0, sizeof(s->match_table));
		s->base = 0;
	}
	s->history = history;
	s->history_len = (uint32_t) history_len;
	s->content = content;
	memset((uint8_t *) s + NEURAL_STATE_KEPT, 0, sizeof(*s) - NEURAL_STATE_KEPT);
	for (uint32_t i = 0; i < history_len; i++)
	{
		s->recent[0] = s->recent[0] << 8 | history[i];
		if (i >= 5)
			s->match_table[0][neural_match_key(s, 0)] = s->base + i + 2;
		if (i >= 2)
			s->match_table[1][neural_match_key(s, 1)] = s->base + i + 2;
	}
	s->recent[0] = 0;
	/* a base document most often begins like its successor */
	if (history_len > 0)
	{
		s->match[0] = 1;
		s->match_len[0] = NEURAL_MATCH_START;
	}
}

NEURAL_INLINE void
neural_finish(NeuralState *s)
{
	s->base += s->history_len + s->pos + 2;
}

NEURAL_INLINE void
neural_hash_fast(NeuralState *s)
{
	uint64_t w = s->recent[0];
	uint64_t *h = s->hash;

	h[NEURAL_ORDER6] = neural_mix(1, w & UINT64_C(0xffffffffffff));
	h[NEURAL_ORDER12] = neural_mix(neural_mix(2, w), s->recent[1] & UINT64_C(0xffffffff));
	h[NEURAL_ORDER20] =
		neural_mix(neural_mix(neural_mix(3, w), s->recent[1]), s->recent[2] & UINT64_C(0xffffffff));
	h[NEURAL_FIELD] = neural_mix(neural_mix(4, s->field), s->value);
}

NEURAL_INLINE void
neural_hash_slow(NeuralState *s)
{
	uint64_t w = s->recent[0];
	uint64_t *h = s->hash;
	uint64_t place = s->value_len < 12 ? s->value_len : 12;

	h[NEURAL_ORDER1] = neural_mix(5, w & 0xff);
	h[NEURAL_ORDER2] = neural_mix(6, w & 0xffff);
	h[NEURAL_ORDER3] = neural_mix(7, w & 0xffffff);
	h[NEURAL_ORDER4] = neural_mix(8, w & UINT64_C(0xffffffff));
	h[NEURAL_ORDER5] = neural_mix(9, w & UINT64_C(0xffffffffff));
	h[NEURAL_ORDER8] = neural_mix(10, w);
	h[NEURAL_WORDS] = neural_mix(neural_mix(11, s->word), s->word_before);
	h[NEURAL_PLACE] = neural_mix(neural_mix(12, s->field), (w & 0xffff) | place << 20);
	h[NEURAL_VALUES] = neural_mix(neural_mix(neural_mix(13, s->field), s->value), s->value_before);
}

NEURAL_INLINE void
neural_update_json(NeuralState *s, uint8_t c)
{
	if (s->in_string)
	{
		if (s->escaped)
			s->escaped = 0;
		else if (c == '\\')
			s->escaped = 1;
		else if (c == '"')
		{
			s->in_string = 0;
			s->key = s->string;
		}
		s->string = neural_roll(s->string, c);
		s->value = neural_roll(s->value, c);
		s->value_len++;
	}
	else if (c == '"')
	{
		s->in_string = 1;
		s->string = 0;
		s->value = neural_roll(s->value, c);
		s->value_len++;
	}
	else if (c == ':')
	{
		s->field = neural_hash32(neural_mix(s->path[s->depth & (NEURAL_DEPTH - 1)], s->key));
		s->value = 0;
		s->value_len = 0;
	}
	else if (c == ',')
	{
		s->value_before = s->value;
		s->field = neural_hash32(neural_mix(s->field, 77));
		s->value = 0;
		s->value_len = 0;
	}
	else if (c == '{' || c == '[')
	{
		uint32_t outer = s->path[s->depth & (NEURAL_DEPTH - 1)];

		s->depth++;
		s->field = neural_hash32(neural_mix(outer, (uint64_t) s->field + (c == '[')));
		s->path[s->depth & (NEURAL_DEPTH - 1)] = s->field;
		s->value = 0;
		s->value_len = 0;
		s->value_before = 0;
	}
	else if (c == '}' || c == ']')
	{
		if (s->depth > 0)
			s->depth--;
		s->value = neural_roll(s->value, c);
	}
	else if (c != ' ' || s->value_len > 0)
	{
		s->value = neural_roll(s->value, c);
		s->value_len++;
	}
}

NEURAL_INLINE bool
neural_separates(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == ',' || c == '=' || c == ':' || c == '[' ||
		   c == ']' || c == '(' || c == ')' || c == '|' || c == '"';
}

NEURAL_INLINE void
neural_update_text(NeuralState *s, uint8_t c)
{
	if (neural_separates(c))
	{
		s->key = c == '\n' ? 0 : s->key + 1;
		s->value_before = s->value;
		s->field = neural_hash32(neural_mix(s->key < 30 ? s->key : 30, c));
		s->value = 0;
		s->value_len = 0;
	}
	else
	{
		s->value = neural_roll(s->value, c);
		s->value_len++;
	}
}

NEURAL_INLINE void
neural_update_match(NeuralState *s, unsigned m, uint8_t c)
{
	uint32_t least = m == 0 ? NEURAL_MATCH_LONG : NEURAL_MATCH_SHORT;
	uint32_t here = s->history_len + s->pos;
	uint32_t *entry;

	if (s->match[m] != 0 && neural_byte_at(s, s->match[m] - 1) == c)
	{
		s->match[m]++;
		s->match_len[m]++;
	}
	else
	{
		s->match[m] = 0;
		s->match_len[m] = 0;
	}
	if (s->pos < least)
		return;
	entry = &s->match_table[m][neural_match_key(s, m)];
	if (s->match[m] == 0 && *entry > s->base)
	{
		uint32_t at = *entry - s->base - 1;
		uint32_t len = 0;

		while (len < 32 && len < at && len < s->pos &&
			   neural_byte_at(s, at - 1 - len) == s->content[s->pos - 1 - len])
			len++;
		if (len >= least)
		{
			s->match[m] = at + 1;
			s->match_len[m] = len;
		}
	}
	*entry = s->base + here + 1;
}

/*
 * Take in the byte at s->content[s->pos], which is there by now.
 */
NEURAL_INLINE void
neural_update(NeuralState *s, uint8_t c)
{
	bool letter =
		(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 128;

	s->recent[2] = s->recent[2] << 8 | s->recent[1] >> 56;
	s->recent[1] = s->recent[1] << 8 | s->recent[0] >> 56;
	s->recent[0] = s->recent[0] << 8 | c;
	if (s->pos == 0)
		s->json = c == '{' || c == '[';
	s->pos++;
	if (letter)
		s->word = neural_hash32(((uint64_t) s->word << 8) + c + 1) | 1;
	else if (s->word != 0)
	{
		s->word_before = s->word;
		s->word = 0;
	}
	if (s->json)
		neural_update_json(s, c);
	else
		neural_update_text(s, c);
	neural_update_match(s, 0, c);
	neural_update_match(s, 1, c);
}

/* ----- what the contexts say ----- */

/* Find a context's slot; leaves s->levels[context] 0 where there is none */
NEURAL_INLINE void
neural_find(NeuralState *s, const NeuralImage *image, unsigned context)
{
	uint64_t hash = s->hash[context];
	const uint8_t *line = neural_line(image, hash);
	uint32_t check = neural_check(hash);
	uint32_t slot;

#ifdef NBMF_NEURAL_AVX2
	__m128i checks = _mm_loadu_si128((const __m128i *) (const void *) line);
	uint32_t mask =
		(uint32_t) _mm_movemask_epi8(_mm_cmpeq_epi16(checks, _mm_set1_epi16((short) check)));

	s->levels[context] = 0;
	if (mask == 0)
		return;
	slot = (uint32_t) __builtin_ctz(mask) >> 1;
#else
	s->levels[context] = 0;
	for (slot = 0; slot < NEURAL_LINE_SLOTS; slot++)
	{
		uint16_t other;

		memcpy(&other, line + 2 * slot, 2);
		if (other == check)
			break;
	}
	if (slot == NEURAL_LINE_SLOTS)
		return;
#endif
	line += NEURAL_LINE_CHECKS + NEURAL_SLOT_LEN * slot;
	memcpy(s->symbols[context], line, 3);
	memcpy(&s->levels[context], line + 3, 2);
}

NEURAL_INLINE void
neural_find_fast(NeuralState *s, const NeuralImage *image)
{
	neural_hash_fast(s);
	for (unsigned i = 0; i < NEURAL_FAST; i++)
		__builtin_prefetch(neural_line(image, s->hash[i]));
	for (unsigned i = 0; i < NEURAL_FAST; i++)
		neural_find(s, image, i);
}

NEURAL_INLINE void
neural_find_slow(NeuralState *s, const NeuralImage *image)
{
	neural_hash_slow(s);
	for (unsigned i = NEURAL_FAST; i < NEURAL_CONTEXTS; i++)
		__builtin_prefetch(neural_line(image, s->hash[i]));
	for (unsigned i = NEURAL_FAST; i < NEURAL_CONTEXTS; i++)
		neural_find(s, image, i);
}

/* Levels of a context as they are without the symbol, and the symbol's own */
NEURAL_INLINE uint32_t
neural_cell(const NeuralImage *image, const uint8_t *symbols, uint32_t levels, uint8_t c)
{
	if (symbols[0] == c && (levels & 0x000f) != 0)
		return (levels & 15) << 4 | image->rest[levels & 0xfff0];
	if (symbols[1] == c && (levels & 0x00f0) != 0)
		return (levels & 0xf0) | image->rest[levels & 0xff0f];
	if (symbols[2] == c && (levels & 0x0f00) != 0)
		return (levels >> 4 & 0xf0) | image->rest[levels & 0xf0ff];
	return image->rest[levels];
}

NEURAL_INLINE void
neural_exclude(NeuralState *s, uint8_t c)
{
	for (unsigned i = 0; i < NEURAL_CONTEXTS; i++)
	{
		uint32_t levels = s->levels[i];

		if (s->symbols[i][0] == c)
			levels &= 0xfff0;
		if (s->symbols[i][1] == c)
			levels &= 0xff0f;
		if (s->symbols[i][2] == c)
			levels &= 0xf0ff;
		s->levels[i] = (uint16_t) levels;
	}
	s->excluded[s->excluded_count++] = c;
}

NEURAL_INLINE bool
neural_is_excluded(const NeuralState *s, uint8_t c)
{
	for (unsigned i = 0; i < s->excluded_count; i++)
		if (s->excluded[i] == c)
			return true;
	return false;
}

NEURAL_INLINE int32_t
neural_dot(const int16_t *x, const int16_t *a, const int16_t *b, const int16_t *c)
{
#ifdef NBMF_NEURAL_AVX2
	__m256i w =
		_mm256_add_epi16(_mm256_add_epi16(_mm256_loadu_si256((const __m256i *) (const void *) a),
										  _mm256_loadu_si256((const __m256i *) (const void *) b)),
						 _mm256_loadu_si256((const __m256i *) (const void *) c));
	__m256i sum = _mm256_madd_epi16(w, _mm256_loadu_si256((const __m256i *) (const void *) x));
	__m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));

	half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
	half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
	return _mm_cvtsi128_si32(half);
#else
	int32_t sum = 0;

	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
		sum += x[i] * (a[i] + b[i] + c[i]);
	return sum;
#endif
}

NEURAL_INLINE int32_t
neural_dot1(const int16_t *x, const int16_t *w)
{
	static const int16_t zero[NEURAL_INPUTS] = {0};

	return neural_dot(x, w, zero, zero);
}

/* Arithmetic shift, whatever the compiler makes of >> on negative numbers */
NEURAL_INLINE int32_t
neural_shift(int32_t x, unsigned n)
{
	return x >= 0 ? x >> n : ~(~x >> n);
}

NEURAL_INLINE uint32_t
neural_match_bucket(uint32_t len)
{
	if (len < 16)
		return len;
	if (len < 32)
		return len < 24 ? 16 : 17;
	len = 18 + (len >> 5);
	return len > 31 ? 31 : len;
}

NEURAL_INLINE int16_t
neural_evidence(const NeuralImage *image, NeuralDecision *d, unsigned stage, unsigned input,
				uint32_t cell)
{
	d->cell[input] = (int16_t) cell;
	return image->evidence[stage][input][cell];
}

/*
 * The fast stage: does every context of few agree?  Then d is the decision
 * whether it is that symbol, and the answer true.
 */
NEURAL_INLINE bool
neural_decide_fast(const NeuralState *s, const NeuralImage *image, NeuralDecision *d)
{
	static const uint8_t order[NEURAL_FAST] = {NEURAL_ORDER20, NEURAL_ORDER12, NEURAL_FIELD,
											   NEURAL_ORDER6};
	int guess = s->match[0] != 0 ? neural_byte_at(s, s->match[0] - 1) : -1;
	uint32_t mask = 0;
	uint32_t match = 0;
	uint8_t c;

	for (unsigned i = 0; i < NEURAL_FAST; i++)
	{
		unsigned context = order[i];

		if (s->levels[context] == 0)
			continue;
		if (guess < 0)
			guess = s->symbols[context][0];
		else if (guess != s->symbols[context][0])
			return false;
		mask |= 1u << i;
	}
	if (guess < 0)
		return false;
	c = (uint8_t) guess;
	memset(d->x, 0, sizeof(d->x));
	memset(d->cell, 0xff, sizeof(d->cell));
	for (unsigned i = 0; i < NEURAL_FAST; i++)
		if (s->levels[i] != 0)
			d->x[i] = neural_evidence(image, d, STAGE_FAST, i,
									  neural_cell(image, s->symbols[i], s->levels[i], c));
	if (s->match[0] != 0)
	{
		uint32_t len = s->match_len[0];

		d->x[NEURAL_MATCH] =
			neural_evidence(image, d, STAGE_FAST, NEURAL_MATCH, neural_match_bucket(len) * 2 + 1);
		match = len < 16 ? 1 : len < 32 ? 2 : 3;
	}
	d->x[NEURAL_BIAS] = 256;
	d->weights[0] = image->fast_found[mask + 16 * match];
	d->weights[1] =
		image->fast_class[image->class_of[c] * 16 + image->class_of[s->recent[0] & 0xff]];
	d->weights[2] = image->fast_any;
	d->symbol = c;
	d->logit =
		neural_shift(neural_dot(d->x, d->weights[0], d->weights[1], d->weights[2]), WEIGHT_SHIFT);
	return true;
}

/* Evidence of all contexts for one symbol */
NEURAL_INLINE void
neural_weigh(const NeuralState *s, const NeuralImage *image, unsigned guess, uint32_t order,
			 uint8_t c, NeuralDecision *d)
{
	unsigned stage = guess == 0 ? STAGE_FIRST : STAGE_AGAIN;
	uint32_t agree = 0;
	uint32_t match = 0;

	memset(d->x, 0, sizeof(d->x));
	memset(d->cell, 0xff, sizeof(d->cell));
	for (unsigned i = 0; i < NEURAL_CONTEXTS; i++)
	{
		uint32_t cell;

		if (s->levels[i] == 0)
			continue;
		cell = neural_cell(image, s->symbols[i], s->levels[i], c);
		d->x[i] = neural_evidence(image, d, stage, i, cell);
		agree += (cell >> 4) > (cell & 15);
	}
	for (unsigned m = 0; m < 2; m++)
	{
		uint8_t other;
		uint32_t bucket;

		if (s->match[m] == 0)
			continue;
		other = neural_byte_at(s, s->match[m] - 1);
		if (neural_is_excluded(s, other))
			continue;
		bucket = neural_match_bucket(s->match_len[m]);
		d->x[NEURAL_MATCH + m] =
			neural_evidence(image, d, stage, NEURAL_MATCH + m, bucket * 2 + (other == c));
		if (m == 0)
			match = other != c ? 5 : bucket < 8 ? 1 : bucket < 16 ? 2 : bucket < 19 ? 3 : 4;
		else if (match == 0)
			match = other == c ? 6 : 7;
	}
	d->x[NEURAL_BIAS] = 256;
	d->weights[0] = image->rank_order[guess][order];
	d->weights[1] = image->rank_match[guess][match * 8 + (agree > 7 ? 7 : agree)];
	d->weights[2] =
		image->rank_class[guess][image->class_of[c] * 16 + image->class_of[s->recent[0] & 0xff]];
	d->symbol = c;
	d->logit =
		neural_shift(neural_dot(d->x, d->weights[0], d->weights[1], d->weights[2]), WEIGHT_SHIFT);
}

/*
 * The best guess among the symbols that contexts and matches name first.  False
 * where nobody names one, or none is likely enough.
 */
NEURAL_INLINE bool
neural_decide(const NeuralState *s, const NeuralImage *image, unsigned guess, NeuralDecision *d)
{
	static const uint8_t priority[NEURAL_CONTEXTS] = {
		NEURAL_ORDER20, NEURAL_ORDER12, NEURAL_VALUES, NEURAL_ORDER8, NEURAL_WORDS,
		NEURAL_ORDER6,  NEURAL_ORDER5,  NEURAL_FIELD,  NEURAL_ORDER4, NEURAL_PLACE,
		NEURAL_ORDER3,  NEURAL_ORDER2,  NEURAL_ORDER1};
	static const uint8_t orders[9] = {NEURAL_ORDER20, NEURAL_ORDER12, NEURAL_ORDER8,
									  NEURAL_ORDER6,  NEURAL_ORDER5,  NEURAL_ORDER4,
									  NEURAL_ORDER3,  NEURAL_ORDER2,  NEURAL_ORDER1};
	uint8_t candidates[CANDIDATES + 2];
	unsigned count = 0;
	uint32_t order = 0;
	unsigned best = 0;
	NeuralDecision other[2];

	for (unsigned m = 0; m < 2; m++)
		if (s->match[m] != 0)
		{
			uint8_t c = neural_byte_at(s, s->match[m] - 1);

			if (!neural_is_excluded(s, c) && !(count == 1 && candidates[0] == c))
				candidates[count++] = c;
		}
	for (unsigned i = 0; i < NEURAL_CONTEXTS && count < CANDIDATES; i++)
	{
		unsigned context = priority[i];
		uint32_t levels = s->levels[context];
		uint8_t c;
		unsigned k;

		if ((levels & 0xf) != 0)
			c = s->symbols[context][0];
		else if ((levels & 0xf0) != 0)
			c = s->symbols[context][1];
		else if ((levels & 0xf00) != 0)
			c = s->symbols[context][2];
		else
			continue;
		for (k = 0; k < count; k++)
			if (candidates[k] == c)
				break;
		if (k == count)
			candidates[count++] = c;
	}
	if (count == 0)
		return false;
	for (unsigned i = 0; i < 9; i++)
		if (s->levels[orders[i]] != 0)
		{
			order = 9 - i;
			break;
		}
	neural_weigh(s, image, guess, order, candidates[0], &other[0]);
	for (unsigned k = 1; k < count; k++)
	{
		neural_weigh(s, image, guess, order, candidates[k], &other[1 - best]);
		if (other[1 - best].logit > other[best].logit)
			best = 1 - best;
	}
	*d = other[best];
	return guess == 0 || d->logit >= AGAIN_LOGIT;
}

/* ----- the escape: a byte that nobody guessed, bit by bit ----- */

NEURAL_INLINE void
neural_escape_hash(const NeuralState *s, uint64_t *h)
{
	uint64_t w = s->recent[0];

	h[0] = neural_mix(21, 0);
	h[1] = neural_mix(22, w & 0xff);
	h[2] = neural_mix(23, w & 0xffff);
	h[3] = neural_mix(neural_mix(24, s->field), s->value_len < 20 ? s->value_len : 20);
	h[4] = neural_mix(neural_mix(25, s->field), w & 0xff);
	h[5] =
		neural_mix(26, s->excluded_count > 0 ? neural_mix((uint64_t) s->excluded[0] + 1, w & 0xff)
											 : w & 0xffffff);
	h[6] = neural_mix(27, w & 0xff);
	h[7] = neural_mix(28, w & 0xffff);
}

/* Context of the second half of a byte, given the first */
NEURAL_INLINE uint64_t
neural_escape_half(uint64_t hash, uint32_t high)
{
	return neural_mix(hash, high + 1);
}

/* Line of an escape context, or NULL */
NEURAL_INLINE const int8_t *
neural_escape_line(const NeuralImage *image, uint64_t hash)
{
	const int8_t *line = neural_escape_bucket(image, hash);
	uint8_t check = neural_escape_check(hash);

	for (unsigned i = 0; i < NEURAL_ESCAPE_WAYS; i++, line += NEURAL_ESCAPE_LINE)
		if ((uint8_t) line[0] == check)
			return line;
	return NULL;
}

#endif /* NBMF_NEURAL_CORE_H */
