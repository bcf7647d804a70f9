/*
 * neural_core.h
 *		The arithmetic of the neural codec: matches, evidence, mixing, and the
 *		coding of one symbol.
 *
 * Everything that both sides of a frame must compute alike is in this file and in
 * neural_context.h, once: they are included by each coder and by the trainer.  They call
 * nothing but memcpy and memset, allocate nothing, do not recurse, and use integers
 * only, so that a compiler for another device can take them as they are.  Whatever is
 * changed here changes the format; docs/format.md describes it.
 */
#ifndef NBMF_NEURAL_CORE_H
#define NBMF_NEURAL_CORE_H

#include "codec/neural_cells.h"

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

/* A candidate that is more likely is the guess, whatever the others are */
#define SURE_LOGIT 0

/* Wrong guesses before the escape */
#define GUESSES 3

/* Different candidates that are weighed against each other */
#define CANDIDATES          2

#define WEIGHT_SHIFT        12
#define ESCAPE_WEIGHT_SHIFT 12
#define ESCAPE_STEP         22

/* Probability, of 65536, that the end mark is the end and not a byte */
#define END_PROBABILITY 65472

/* One decision: is the next byte symbol? */
typedef struct NeuralDecision
{
	int16_t x[NEURAL_INPUTS];
	uint8_t cell[NEURAL_INPUTS]; /* index into evidence[stage][input]; 0: none */
	const int16_t *weights[3];
	int32_t logit;
	uint8_t symbol;
} NeuralDecision;

/*
 * 65536 / (1 + exp(-x / 256)) for x = -2816, -2784 .. 2816, between which
 * neural_squash goes straight.
 */
NEURAL_DEVICE static const uint16_t neural_squash_points[178] = {
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

	return neural_hash32(neural_mix(s->now.recent[0] & mask, m + 3)) >> (32 - NEURAL_MATCH_BITS);
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
		memset(s->match_table, 0, 2 * sizeof(s->match_table[0]));
		s->base = 0;
	}
	s->history = history;
	s->history_len = (uint32_t) history_len;
	s->content = content;
	memset((uint8_t *) s + NEURAL_STATE_KEPT, 0, sizeof(*s) - NEURAL_STATE_KEPT);
	for (uint32_t i = 0; i < history_len; i++)
	{
		s->now.recent[0] = s->now.recent[0] << 8 | history[i];
		if (i >= 5)
			s->match_table[0][neural_match_key(s, 0)] = s->base + i + 2;
		if (i >= 2)
			s->match_table[1][neural_match_key(s, 1)] = s->base + i + 2;
	}
	s->now.recent[0] = 0;
	/* a base document most often begins like its successor */
	if (history_len > 0)
	{
		s->match[0] = 1;
		s->match_len[0] = NEURAL_MATCH_START;
		s->match_guess[0] = history[0];
	}
}

NEURAL_INLINE void
neural_finish(NeuralState *s)
{
	s->base += s->history_len + s->pos + 2;
}

/* How many bytes before a place are those before the next byte; 32 at most */
NEURAL_INLINE uint32_t
neural_common(const NeuralState *s, uint32_t at)
{
	uint32_t len = 0;

#if defined(__GNUC__) && !defined(__CUDACC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	/* eight at a time; the last one is uppermost */
	if (at >= s->history_len + 32)
	{
		const uint8_t *there = s->content + (at - s->history_len);
		const uint8_t *here = s->content + s->pos;

		for (; len < 32; len += 8)
		{
			uint64_t a;
			uint64_t b;

			memcpy(&a, there - len - 8, 8);
			memcpy(&b, here - len - 8, 8);
			if (a != b)
				return len + ((uint32_t) __builtin_clzll(a ^ b) >> 3);
		}
		return len;
	}
#endif
	while (len < 32 && len < at && len < s->pos &&
		   neural_byte_at(s, at - 1 - len) == s->content[s->pos - 1 - len])
		len++;
	return len;
}

NEURAL_INLINE void
neural_update_match(NeuralState *s, unsigned m, uint8_t c)
{
	uint32_t least = m == 0 ? NEURAL_LONG_LEN : NEURAL_SHORT_LEN;
	uint32_t here = s->history_len + s->pos;

	if (s->match[m] != 0 && s->match_guess[m] == c)
	{
		s->match[m]++;
		s->match_len[m]++;
	}
	else
	{
		s->match[m] = 0;
		s->match_len[m] = 0;
	}
	if (s->pos >= least)
	{
		uint32_t *entry = &s->match_table[m][neural_match_key(s, m)];

		if (s->match[m] == 0 && *entry > s->base)
		{
			uint32_t at = *entry - s->base - 1;
			uint32_t len = neural_common(s, at);

			if (len >= least)
			{
				s->match[m] = at + 1;
				s->match_len[m] = len;
			}
		}
		*entry = s->base + here + 1;
	}
	if (s->match[m] != 0)
		s->match_guess[m] = neural_byte_at(s, s->match[m] - 1);
}

/* Take in a byte that is at s->content[s->pos] and has led to s->now */
NEURAL_INLINE void
neural_update_matches(NeuralState *s, uint8_t c)
{
	s->pos++;
	neural_update_match(s, 0, c);
	neural_update_match(s, 1, c);
}

/* ----- asking the contexts ----- */

NEURAL_INLINE void
neural_prefetch(const void *at)
{
#ifdef __GNUC__
	__builtin_prefetch(at);
#else
	(void) at;
#endif
}

/*
 * Find a context's slot; returns its levels, 0 where there is none.  No branch hangs on
 * what is found, since many a guess of the processor would have to wait for memory to be
 * found wrong.  The cells are left to the stage that asks.
 */
NEURAL_INLINE uint32_t
neural_find(NeuralState *s, unsigned i)
{
	const uint8_t *line = s->line[i];
	uint16_t check = neural_check(s->hash[i]);
#if defined(NBMF_NEURAL_AVX2) || defined(NBMF_NEURAL_NEON)
	uint32_t slot;
	uint64_t there;
	uint64_t said;

#ifdef NBMF_NEURAL_AVX2
	{
		__m128i checks = _mm_loadu_si128((const __m128i *) (const void *) line);
		uint32_t mask =
			(uint32_t) _mm_movemask_epi8(_mm_cmpeq_epi16(checks, _mm_set1_epi16((short) check)));

		slot = neural_lowest(mask | 0x8000) >> 1;
		there = 0 - (uint64_t) (mask != 0);
	}
#else
	there = 0 - (uint64_t) neon_slot(line, check, &slot);
#endif
	/* a slot's six bytes, from the two before it on */
	memcpy(&said, line + NEURAL_LINE_CHECKS - 2 + NEURAL_SLOT_LEN * slot, 8);
	said = (said >> 16) & there;
	s->symbol[0][i] = (uint8_t) said;
	s->symbol[1][i] = (uint8_t) (said >> 8);
	s->symbol[2][i] = (uint8_t) (said >> 16);
	s->levels[i] = (uint16_t) (said >> 24);
	return (uint32_t) (said >> 24);
#else
	uint16_t levels;
	uint32_t slot;

	for (slot = 0; slot < NEURAL_LINE_SLOTS; slot++)
	{
		uint16_t other;

		memcpy(&other, line + 2 * slot, 2);
		if (other == check)
			break;
	}
	if (slot == NEURAL_LINE_SLOTS)
	{
		s->levels[i] = 0;
		return 0;
	}
	line += NEURAL_LINE_CHECKS + NEURAL_SLOT_LEN * slot;
	memcpy(&levels, line + 3, 2);
	s->symbol[0][i] = line[0];
	s->symbol[1][i] = line[1];
	s->symbol[2][i] = line[2];
	s->levels[i] = levels;
	return levels;
#endif
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

/* The matches speak in the first two inputs */
NEURAL_INLINE void
neural_hear_matches(NeuralState *s)
{
	s->found = 0;
	s->guessing = 0;
	for (unsigned m = 0; m < 2; m++)
	{
		uint32_t bucket;

		neural_clear(s, m);
		if (s->match[m] == 0)
			continue;
		bucket = neural_match_bucket(s->match_len[m]);
		s->symbol[0][m] = s->symbol[1][m] = s->symbol[2][m] = s->match_guess[m];
		s->cell[0][m] = s->cell[1][m] = s->cell[2][m] = (uint8_t) (2 * bucket + 1);
		s->cell[3][m] = (uint8_t) (2 * bucket);
		s->found |= 1u << m;
		s->guessing |= 1u << m;
	}
}

/* A context's line, which is fetched */
NEURAL_INLINE const uint8_t *
neural_fetch(const NeuralImage *image, uint64_t hash)
{
	const uint8_t *line = neural_line(image, hash);

	neural_prefetch(line);
	return line;
}

NEURAL_INLINE void
neural_fetch_fast(const NeuralImage *image, const uint64_t *hash, const uint8_t **line)
{
	line[NEURAL_ORDER20] = neural_fetch(image, hash[NEURAL_ORDER20]);
	line[NEURAL_ORDER12] = neural_fetch(image, hash[NEURAL_ORDER12]);
	line[NEURAL_FIELD] = neural_fetch(image, hash[NEURAL_FIELD]);
	line[NEURAL_ORDER6] = neural_fetch(image, hash[NEURAL_ORDER6]);
}

NEURAL_INLINE void
neural_fetch_slow(const NeuralImage *image, const uint64_t *hash, const uint8_t **line)
{
	line[NEURAL_WORDS] = neural_fetch(image, hash[NEURAL_WORDS]);
	line[NEURAL_ORDER4] = neural_fetch(image, hash[NEURAL_ORDER4]);
	line[NEURAL_PLACE] = neural_fetch(image, hash[NEURAL_PLACE]);
	line[NEURAL_ORDER3] = neural_fetch(image, hash[NEURAL_ORDER3]);
	line[NEURAL_ORDER2] = neural_fetch(image, hash[NEURAL_ORDER2]);
	line[NEURAL_ORDER1] = neural_fetch(image, hash[NEURAL_ORDER1]);
}

/* Contexts of the byte at a place that is ahead; the places come in order */
NEURAL_INLINE void
neural_look_ahead(NeuralState *s, const NeuralImage *image, NeuralAhead *ring, size_t at)
{
	NeuralAhead *ahead = &ring[at % NEURAL_AHEAD];

	if (at > 0)
		neural_read(&s->reader, s->content[at - 1]);
	ahead->context = s->reader.context;
	neural_hash_fast(&ahead->context, ahead->hash);
	neural_fetch_fast(image, ahead->hash, ahead->line);
}

/* Go to a place that was looked at */
NEURAL_INLINE void
neural_go(NeuralState *s, const NeuralAhead *ring, size_t at)
{
	const NeuralAhead *ahead = &ring[at % NEURAL_AHEAD];

	s->now = ahead->context;
	s->hash[NEURAL_ORDER20] = ahead->hash[NEURAL_ORDER20];
	s->line[NEURAL_ORDER20] = ahead->line[NEURAL_ORDER20];
	s->hash[NEURAL_ORDER12] = ahead->hash[NEURAL_ORDER12];
	s->line[NEURAL_ORDER12] = ahead->line[NEURAL_ORDER12];
	s->hash[NEURAL_FIELD] = ahead->hash[NEURAL_FIELD];
	s->line[NEURAL_FIELD] = ahead->line[NEURAL_FIELD];
	s->hash[NEURAL_ORDER6] = ahead->hash[NEURAL_ORDER6];
	s->line[NEURAL_ORDER6] = ahead->line[NEURAL_ORDER6];
}

/*
 * s->now and the hashes of the fast stage are those of the next byte.  Where the
 * byte before needed the slow stage, this one most often does.
 */
NEURAL_INLINE void
neural_enter(NeuralState *s, const NeuralImage *image)
{
	s->slow_hashed = s->slow;
	if (s->slow)
	{
		neural_hash_slow(&s->now, s->hash);
		neural_fetch_slow(image, s->hash, s->line);
	}
}

/* Take in a byte that is at s->content[s->pos] */
NEURAL_INLINE void
neural_update(NeuralState *s, const NeuralImage *image, uint8_t c)
{
	neural_read(&s->reader, c);
	s->now = s->reader.context;
	neural_hash_fast(&s->now, s->hash);
	neural_fetch_fast(image, s->hash, s->line);
	neural_enter(s, image);
	neural_update_matches(s, c);
}

NEURAL_INLINE void
neural_find_fast(NeuralState *s, const NeuralImage *image)
{
	uint32_t found = 0;
	uint32_t guessing = 0;

/* nothing but the first symbol matters here */
#define ASK(i)                                              \
	do                                                      \
	{                                                       \
		uint32_t levels = neural_find(s, i);                \
		found |= (uint32_t) (levels != 0) << (i);           \
		guessing |= (uint32_t) ((levels & 15) != 0) << (i); \
		neural_set_first_cell(s, image, i);                 \
	} while (0)
	neural_hear_matches(s);
	ASK(NEURAL_ORDER20);
	ASK(NEURAL_ORDER12);
	ASK(NEURAL_FIELD);
	ASK(NEURAL_ORDER6);
#undef ASK
	s->found |= found;
	s->guessing |= guessing;
	s->slow = false;
}

NEURAL_INLINE void
neural_find_slow(NeuralState *s, const NeuralImage *image)
{
	s->slow = true;
	if (!s->slow_hashed)
	{
		neural_hash_slow(&s->now, s->hash);
		neural_fetch_slow(image, s->hash, s->line);
	}
	neural_find(s, NEURAL_WORDS);
	neural_find(s, NEURAL_ORDER4);
	neural_find(s, NEURAL_PLACE);
	neural_find(s, NEURAL_ORDER3);
	neural_find(s, NEURAL_ORDER2);
	neural_find(s, NEURAL_ORDER1);
	neural_hear_all(s, image);
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
#elif defined(NBMF_NEURAL_NEON)
	return neon_dot(x, a, b, c);
#else
	int32_t sum = 0;

	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
		sum += x[i] * (a[i] + b[i] + c[i]);
	return sum;
#endif
}

NEURAL_INLINE int32_t
neural_dot2(const int16_t *x, const int16_t *a, const int16_t *b)
{
	static const int16_t zero[NEURAL_INPUTS] = {0};

	return neural_dot(x, a, b, zero);
}

/* Arithmetic shift, whatever the compiler makes of >> on negative numbers */
NEURAL_INLINE int32_t
neural_shift(int32_t x, unsigned n)
{
	return x >= 0 ? x >> n : ~(~x >> n);
}

/*
 * The fast stage: is every one of few contexts of the same mind?  Then d is the
 * decision whether they are right, and the answer true.
 */
NEURAL_INLINE bool
neural_decide_fast(const NeuralState *s, const NeuralImage *image, bool train, NeuralDecision *d)
{
	const int16_t(*evidence)[256] = image->evidence[STAGE_FAST];
	uint32_t heard = s->guessing & (NEURAL_FAST | 1u << NEURAL_MATCH_LONG);
	uint32_t mask;
	uint32_t match;
	uint8_t c;

	if (heard == 0 || (s->found & NEURAL_FAST & ~heard) != 0)
		return false;
	c = s->symbol[0][neural_lowest(heard)];
	if ((heard & ~neural_equal(s->symbol[0], c)) != 0)
		return false;
	mask = (heard >> NEURAL_ORDER20 & 3) | (heard >> NEURAL_FIELD & 1) << 2 |
		   (heard >> NEURAL_ORDER6 & 1) << 3;
	match = 0;
	if (heard & 1u << NEURAL_MATCH_LONG)
		match = s->match_len[0] < 16 ? 1 : s->match_len[0] < 32 ? 2 : 3;
#ifdef NBMF_NEURAL_AVX2
	{
		_Static_assert(NEURAL_FIELD < 8 && NEURAL_ORDER6 < 8, "the lower half of a vector");
		/* built in registers: many small stores would hold up the wide load */
		__m128i x0 = _mm_setzero_si128();
		__m128i x1 = _mm_setzero_si128();

#define LANE(i) x0 = _mm_insert_epi16(x0, evidence[i][s->cell[0][i]], i)
		LANE(NEURAL_MATCH_LONG);
		LANE(NEURAL_ORDER20);
		LANE(NEURAL_ORDER12);
		LANE(NEURAL_ORDER6);
		LANE(NEURAL_FIELD);
#undef LANE
		x1 = _mm_insert_epi16(x1, evidence[NEURAL_BIAS][0], NEURAL_BIAS - 8);
		_mm256_storeu_si256((__m256i *) (void *) d->x, _mm256_set_m128i(x1, x0));
	}
#else
	memset(d->x, 0, sizeof(d->x));
	d->x[NEURAL_MATCH_LONG] = evidence[NEURAL_MATCH_LONG][s->cell[0][NEURAL_MATCH_LONG]];
	d->x[NEURAL_ORDER20] = evidence[NEURAL_ORDER20][s->cell[0][NEURAL_ORDER20]];
	d->x[NEURAL_ORDER12] = evidence[NEURAL_ORDER12][s->cell[0][NEURAL_ORDER12]];
	d->x[NEURAL_ORDER6] = evidence[NEURAL_ORDER6][s->cell[0][NEURAL_ORDER6]];
	d->x[NEURAL_FIELD] = evidence[NEURAL_FIELD][s->cell[0][NEURAL_FIELD]];
	d->x[NEURAL_BIAS] = evidence[NEURAL_BIAS][0];
#endif
	if (train)
	{
		memset(d->cell, 0, sizeof(d->cell));
		d->cell[NEURAL_MATCH_LONG] = s->cell[0][NEURAL_MATCH_LONG];
		d->cell[NEURAL_ORDER20] = s->cell[0][NEURAL_ORDER20];
		d->cell[NEURAL_ORDER12] = s->cell[0][NEURAL_ORDER12];
		d->cell[NEURAL_ORDER6] = s->cell[0][NEURAL_ORDER6];
		d->cell[NEURAL_FIELD] = s->cell[0][NEURAL_FIELD];
	}
	d->weights[0] = image->fast_found[mask + 16 * match];
	d->weights[1] =
		image->fast_class[image->class_of[c] * 16 + image->class_of[s->now.recent[0] & 0xff]];
	d->weights[2] = image->fast_any;
	d->symbol = c;
	d->logit =
		neural_shift(neural_dot(d->x, d->weights[0], d->weights[1], d->weights[2]), WEIGHT_SHIFT);
	return true;
}

/*
 * What all inputs together think of symbol c.
 */
NEURAL_INLINE void
neural_weigh(const NeuralState *s, const NeuralImage *image, unsigned guess, unsigned order,
			 uint8_t c, NeuralDecision *d)
{
	const int16_t(*evidence)[256] = image->evidence[guess == 0 ? STAGE_FIRST : STAGE_AGAIN];
	const uint32_t contexts = NEURAL_CONTEXTS;
	uint32_t agree;
	uint32_t match;

#ifdef NBMF_NEURAL_AVX2
	_Static_assert(NEURAL_CONTEXT_END == 12, "the lanes below are all");
	const __m128i symbol = _mm_set1_epi8((char) c);
	const __m128i low = _mm_set1_epi8(15);
	__m128i cell = _mm_loadu_si128((const __m128i *) (const void *) s->cell[3]);
	__m128i x0 = _mm_setzero_si128();
	__m128i x1 = _mm_setzero_si128();

	for (unsigned k = 3; k-- > 0;)
		cell = _mm_blendv_epi8(
			cell, _mm_loadu_si128((const __m128i *) (const void *) s->cell[k]),
			_mm_cmpeq_epi8(symbol, _mm_loadu_si128((const __m128i *) (const void *) s->symbol[k])));
	_mm_storeu_si128((__m128i *) (void *) d->cell, cell);
	agree = (uint32_t) _mm_movemask_epi8(_mm_cmpgt_epi8(_mm_and_si128(_mm_srli_epi16(cell, 4), low),
														_mm_and_si128(cell, low))) &
			contexts;
#define LANE(v, i) v = _mm_insert_epi16(v, evidence[i][d->cell[i]], (i) &7)
	LANE(x0, 0);
	LANE(x0, 1);
	LANE(x0, 2);
	LANE(x0, 3);
	LANE(x0, 4);
	LANE(x0, 5);
	LANE(x0, 6);
	LANE(x0, 7);
	LANE(x1, 8);
	LANE(x1, 9);
	LANE(x1, 10);
	LANE(x1, 11);
	LANE(x1, NEURAL_BIAS);
#undef LANE
	_mm256_storeu_si256((__m256i *) (void *) d->x, _mm256_set_m128i(x1, x0));
#elif defined(NBMF_NEURAL_NEON)
	agree = neon_cells_for(s, c, d->cell) & contexts;
	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
		d->x[i] = evidence[i][d->cell[i]];
#else
	agree = 0;
	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
	{
		uint32_t cell = s->cell[3][i];

		for (unsigned k = 3; k-- > 0;)
			if (s->symbol[k][i] == c)
				cell = s->cell[k][i];
		agree |= (uint32_t) (cell >> 4 > (cell & 15)) << i;
		d->cell[i] = (uint8_t) cell;
		d->x[i] = evidence[i][cell];
	}
	agree &= contexts;
#endif
	agree = neural_ones(agree);
	match = 0;
	if (s->found & 1u << NEURAL_MATCH_LONG)
	{
		uint32_t said = d->cell[NEURAL_MATCH_LONG];

		match = (said & 1) == 0 ? 5 : said < 16 ? 1 : said < 32 ? 2 : said < 38 ? 3 : 4;
	}
	else if (s->found & 1u << NEURAL_MATCH_SHORT)
		match = d->cell[NEURAL_MATCH_SHORT] & 1 ? 6 : 7;
	d->weights[0] = image->rank_order[guess][order];
	d->weights[1] = image->rank_match[guess][match * 8 + (agree > 7 ? 7 : agree)];
	d->weights[2] =
		image
			->rank_class[guess][image->class_of[c] * 16 + image->class_of[s->now.recent[0] & 0xff]];
	d->symbol = c;
	d->logit =
		neural_shift(neural_dot(d->x, d->weights[0], d->weights[1], d->weights[2]), WEIGHT_SHIFT);
}

/*
 * The best of the first candidates that the inputs have.  False where there is none,
 * or none that is likely enough.  train: d is complete; otherwise only its symbol
 * and logit are.
 */
NEURAL_INLINE bool
neural_decide(const NeuralState *s, const NeuralImage *image, unsigned guess, bool train,
			  NeuralDecision *d)
{
	uint32_t left = s->guessing;
	uint32_t orders = s->found & NEURAL_ORDERS;
	unsigned order = orders != 0 ? neural_lowest(orders) : NEURAL_BIAS;
	int32_t best = INT32_MIN;
	uint8_t symbol = 0;

	for (unsigned n = 0; left != 0 && n < CANDIDATES; n++)
	{
		uint8_t c = s->symbol[0][neural_lowest(left)];

		left &= ~neural_equal(s->symbol[0], c);
		neural_weigh(s, image, guess, order, c, d);
		if (d->logit > best)
		{
			best = d->logit;
			symbol = c;
		}
		if (best > SURE_LOGIT)
			break;
	}
	if (best == INT32_MIN)
		return false;
	if (train)
		neural_weigh(s, image, guess, order, symbol, d);
	d->symbol = symbol;
	d->logit = best;
	return guess == 0 || best >= AGAIN_LOGIT;
}

/* ----- the escape: a byte that nobody guessed, bit by bit ----- */

NEURAL_INLINE void
neural_escape_hash(const NeuralState *s, const NeuralContext *x, uint64_t *h)
{
	uint64_t w = x->recent[0];

	h[0] = neural_mix(21, w & 0xffffff);
	h[1] = neural_mix(22, w & 0xff);
	h[2] = neural_mix(23, w & 0xffff);
	h[3] = neural_mix(neural_mix(24, x->field), x->value_len < 20 ? x->value_len : 20);
	h[4] = neural_mix(neural_mix(25, x->field), w & 0xff);
	h[5] = neural_mix(26, s->excluded_count > 0
							  ? neural_mix((s->excluded & 0xff) + UINT64_C(1), w & 0xff)
							  : w & 0xffffff);
	h[6] = neural_mix(27, w & 0xff);
	h[7] = neural_mix(28, w & 0xffff);
}

NEURAL_INLINE void
neural_escape_prefetch(const NeuralImage *image, const uint64_t *hash)
{
	for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
		neural_prefetch(neural_escape_bucket(image, hash[i]));
}

/* The hashes do not change any more after the first wrong guess */
NEURAL_INLINE void
neural_escape_begin(const NeuralState *s, const NeuralImage *image, uint64_t *hash)
{
	neural_escape_hash(s, &s->now, hash);
	neural_escape_prefetch(image, hash);
}

/* Context of the second half of a byte, given the first */
NEURAL_INLINE uint64_t
neural_escape_half(uint64_t hash, uint32_t high)
{
	return neural_mix(hash, high + 1);
}

/* Line of an escape context; all zeros where there is none */
NEURAL_INLINE const int8_t *
neural_escape_line(const NeuralImage *image, uint64_t hash)
{
	static const int8_t none[NEURAL_ESCAPE_LINE] = {0};
	const int8_t *line = neural_escape_bucket(image, hash);
	uint8_t check = neural_escape_check(hash);

	uint32_t ways = 0;

	/* no branch hangs on which of them it is: it would be guessed wrong */
	for (unsigned i = 0; i < NEURAL_ESCAPE_WAYS; i++)
		ways |= (uint32_t) ((uint8_t) line[i * NEURAL_ESCAPE_LINE] == check) << i;
	line += NEURAL_ESCAPE_LINE * neural_lowest(ways | 1u << NEURAL_ESCAPE_WAYS);
	return ways != 0 ? line : none;
}

/*
 * Which weights of the escape suit a node of this depth: how many of the excluded bytes
 * are below it on the side of a 0, and on that of a 1.
 */
NEURAL_INLINE uint32_t
neural_escape_excluded(uint32_t excluded, unsigned count, uint32_t node, unsigned depth)
{
	uint32_t below = 0;

	for (unsigned i = 0; i < GUESSES; i++, excluded >>= 8)
	{
		uint32_t path = (excluded & 0xff) | (uint32_t) (i < count) << 8;
		uint32_t side = path >> (7 - depth) & 1;

		below += (uint32_t) (path >> (8 - depth) == node) << (2 - 2 * side);
	}
	return depth << 4 | below;
}

/* The logit of the next bit being 1, from a node of each line */
NEURAL_INLINE int32_t
neural_escape_logit(const NeuralImage *image, const int8_t *const *line, uint32_t at, uint32_t node,
					uint32_t excluded, int16_t *x)
{
#ifdef NBMF_NEURAL_AVX2
	__m128i low = _mm_setr_epi16(line[0][at], line[1][at], line[2][at], line[3][at], line[4][at],
								 line[5][at], line[6][at], line[7][at]);
	__m128i high = _mm_setr_epi16(0, 0, 0, 0, 0, 0, 0, 256);

	_Static_assert(NEURAL_ESCAPE_CONTEXTS == 8, "the lower half of a vector");
	_mm256_storeu_si256((__m256i *) (void *) x,
						_mm256_set_m128i(high, _mm_mullo_epi16(low, _mm_set1_epi16(ESCAPE_STEP))));
#else
	memset(x, 0, NEURAL_INPUTS * sizeof(*x));
	for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
		x[i] = (int16_t) (line[i][at] * ESCAPE_STEP);
	x[NEURAL_BIAS] = 256;
#endif
	return neural_shift(
		neural_dot2(x, image->escape_weights[node], image->escape_excluded[excluded]),
		ESCAPE_WEIGHT_SHIFT);
}

#endif /* NBMF_NEURAL_CORE_H */
