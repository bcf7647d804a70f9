/*
 * neural_learn.h
 *		Learning from one document: the trainer's state, and what coding a
 *		document does to it.  Included by each coder, as neural_code.h is, and by
 *		the trainer for the state.
 */
#ifndef NBMF_NEURAL_LEARN_H
#define NBMF_NEURAL_LEARN_H

#include "codec/neural_core.h"

/* Symbols that are counted apart */
#define COUNTED 6

/* Contexts are searched in groups of so many */
#define GROUP 8

/* Positions whose contexts wait to be counted */
#define PENDING_MAX 16384

/* A context must be seen this often */
#define SEEN_MIN 2

/* Probabilities have 22 bits here */
#define CELL_ONE   4194304
#define CELL_LIMIT 1020
#define NODE_LIMIT 1000

/* Weights have four more bits than in the image */
#define FINE_SHIFT 4
#define FINE_MAX   (10922 << FINE_SHIFT)

typedef struct Counts
{
	uint16_t count[COUNTED];
	uint16_t other;
	uint8_t symbol[COUNTED];
} Counts;

/*
 * Contexts that the same upper bits of the hash lead to: a line of cache with what
 * tells them apart, and three with their counts, none of which crosses from one into
 * the next.  A key is the hash; but for its two upper bits, which the place tells, it
 * has how often the context was seen, up to 3.  0: free.
 */
typedef struct Group
{
	uint64_t key[GROUP];
	struct
	{
		Counts counts[3];
		uint8_t unused[4];
	} line[3];
} Group;

_Static_assert(sizeof(Group) == 256, "four lines of cache");

#define KEY_HASH (UINT64_MAX >> 2)
#define KEY_SEEN (UINT64_C(1) << 62)

typedef struct Cell
{
	uint32_t p;
	uint32_t n;
} Cell;

typedef struct Node
{
	uint16_t p;
	uint16_t n;
} Node;

typedef struct NeuralTrainer
{
	NeuralImage *image;
	NeuralState state;
	Group *table;     /* aligned to a line of cache */
	void *table_room; /* where it is */
	uint32_t table_bits;
	Cell cells[3][NEURAL_INPUTS][256];
	int32_t *fine;     /* weights, in the order of the image */
	Node (*nodes)[16]; /* of the escape's lines */
	uint64_t (*pending)[NEURAL_INPUTS];
	uint8_t *pending_symbol;
	uint8_t *pending_slow;
	size_t pending_count;
	int32_t rate;
	uint32_t step[1024]; /* 65536 / (n + 1.6) */
	int16_t *stretch;    /* logit of each probability of 65536 */
	uint8_t level_of[1024];
	int32_t trust[NODE_LIMIT + 1]; /* 1024 * (n + 0.3) / (n + 1.8) */
	bool (*interrupted)(void);     /* or NULL */
} NeuralTrainer;

/* ----- counting contexts ----- */

NEURAL_INLINE Group *
group_of(const NeuralTrainer *t, uint64_t hash)
{
	return t->table + (hash >> (67 - t->table_bits));
}

NEURAL_INLINE Counts *
group_counts(Group *group, unsigned i)
{
	return &group->line[i / 3].counts[i % 3];
}

/* Place of a context in its group; GROUP where it is not */
NEURAL_INLINE unsigned
find_key(const Group *group, uint64_t hash)
{
	uint64_t key = (hash != 0 ? hash : 1) & KEY_HASH;
#ifdef NBMF_NEURAL_AVX2
	const __m256i wanted = _mm256_set1_epi64x((long long) key);
	const __m256i part = _mm256_set1_epi64x((long long) KEY_HASH);
	const __m256i *keys = (const __m256i *) (const void *) group->key;
	__m256i low = _mm256_and_si256(_mm256_loadu_si256(keys), part);
	__m256i high = _mm256_and_si256(_mm256_loadu_si256(keys + 1), part);
	uint32_t mask =
		(uint32_t) _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(low, wanted))) |
		(uint32_t) _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(high, wanted))) << 4;

	/* a free place looks like a key of zeros */
	for (; mask != 0; mask &= mask - 1)
		if (group->key[neural_lowest(mask)] != 0)
			return neural_lowest(mask);
#else
	for (unsigned i = 0; i < GROUP; i++)
		if ((group->key[i] & KEY_HASH) == key && group->key[i] != 0)
			return i;
#endif
	return GROUP;
}

/*
 * Place for a context that is not in its group: a free one, or that of the one that was
 * seen least, but not often.
 */
NEURAL_INLINE unsigned
make_key(Group *group, uint64_t hash)
{
	unsigned weakest = GROUP;
	uint64_t least = SEEN_MIN + 1;

	for (unsigned i = 0; i < GROUP && least > 0; i++)
		if (group->key[i] >> 62 < least)
		{
			least = group->key[i] >> 62;
			weakest = i;
		}
	if (weakest < GROUP)
	{
		memset(group_counts(group, weakest), 0, sizeof(Counts));
		group->key[weakest] = (hash != 0 ? hash : 1) & KEY_HASH;
	}
	return weakest;
}

NEURAL_INLINE void
count_symbol(Counts *c, uint8_t symbol)
{
	for (unsigned k = 0; k < COUNTED; k++)
	{
		if (c->count[k] == 0)
		{
			c->symbol[k] = symbol;
			c->count[k] = 1;
			return;
		}
		if (c->symbol[k] != symbol)
			continue;
		if (c->count[k] < 60000)
			c->count[k]++;
		for (; k > 0 && c->count[k] > c->count[k - 1]; k--)
		{
			uint16_t count = c->count[k];

			c->count[k] = c->count[k - 1];
			c->count[k - 1] = count;
			c->symbol[k] = c->symbol[k - 1];
			c->symbol[k - 1] = symbol;
		}
		return;
	}
	if (c->other < 60000)
		c->other++;
	if (c->count[COUNTED - 1] == 1)
		c->symbol[COUNTED - 1] = symbol;
}

NEURAL_INLINE uint32_t
level(const NeuralTrainer *t, uint32_t count)
{
	return count < 1024 ? t->level_of[count] : 15;
}

NEURAL_INLINE uint32_t
levels_of(const NeuralTrainer *t, const Counts *c)
{
	uint32_t other = c->other;
	uint32_t total = c->count[0];

	for (unsigned k = 3; k < COUNTED; k++)
		other += c->count[k];
	total += c->count[1] + (uint32_t) c->count[2] + other;
	if (total < SEEN_MIN)
		return 0;
	return level(t, c->count[0]) | level(t, c->count[1]) << 4 | level(t, c->count[2]) << 8 |
		   level(t, other) << 12;
}

/* What neural_find does with slots */
NEURAL_INLINE void
look_up(NeuralTrainer *t, uint32_t contexts)
{
	NeuralState *s = &t->state;
	const Counts *counts[NEURAL_INPUTS];

	for (uint32_t left = contexts; left != 0; left &= left - 1)
		neural_prefetch(group_of(t, s->hash[neural_lowest(left)]));
	for (uint32_t left = contexts; left != 0; left &= left - 1)
	{
		unsigned i = neural_lowest(left);
		Group *group = group_of(t, s->hash[i]);
		unsigned place = find_key(group, s->hash[i]);

		counts[i] = NULL;
		if (place < GROUP && group->key[place] >> 62 >= SEEN_MIN)
		{
			counts[i] = group_counts(group, place);
			neural_prefetch(counts[i]);
		}
	}
	for (uint32_t left = contexts; left != 0; left &= left - 1)
	{
		unsigned i = neural_lowest(left);
		const Counts *c = counts[i];
		uint32_t levels = c != NULL ? levels_of(t, c) : 0;

		if (levels == 0)
			neural_clear(s, i);
		else
		{
			s->symbol[0][i] = c->symbol[0];
			s->symbol[1][i] = c->symbol[1];
			s->symbol[2][i] = c->symbol[2];
			s->levels[i] = (uint16_t) levels;
			neural_set_cells(s, t->image, i);
			s->found |= 1u << i;
			s->guessing |= (uint32_t) ((levels & 15) != 0) << i;
		}
	}
}

NEURAL_INLINE uint32_t
pending_contexts(const NeuralTrainer *t, size_t i)
{
	return t->pending_slow[i] ? NEURAL_CONTEXTS : NEURAL_FAST;
}

NEURAL_INLINE void
count_pending(NeuralTrainer *t)
{
	for (size_t i = 0; i < t->pending_count; i++)
	{
		/* groups are fetched four symbols ahead, counts one */
		if (i + 4 < t->pending_count)
			for (uint32_t left = pending_contexts(t, i + 4); left != 0; left &= left - 1)
				neural_prefetch(group_of(t, t->pending[i + 4][neural_lowest(left)]));
		if (i + 1 < t->pending_count)
			for (uint32_t left = pending_contexts(t, i + 1); left != 0; left &= left - 1)
			{
				uint64_t hash = t->pending[i + 1][neural_lowest(left)];
				Group *group = group_of(t, hash);

				neural_prefetch(group_counts(group, find_key(group, hash) % GROUP));
			}
		for (uint32_t left = pending_contexts(t, i); left != 0; left &= left - 1)
		{
			uint64_t hash = t->pending[i][neural_lowest(left)];
			Group *group = group_of(t, hash);
			unsigned place = find_key(group, hash);

			if (place == GROUP)
				place = make_key(group, hash);
			if (place == GROUP)
				continue;
			if (group->key[place] >> 62 < 3)
				group->key[place] += KEY_SEEN;
			count_symbol(group_counts(group, place), t->pending_symbol[i]);
		}
	}
	t->pending_count = 0;
}

/* ----- learning from decisions ----- */

NEURAL_INLINE void
move_weights(NeuralTrainer *t, const int16_t *weights, const int16_t *x, int32_t error)
{
	size_t at = (size_t) (weights - &t->image->fast_found[0][0]);
	int16_t *coarse = &t->image->fast_found[0][0] + at;
	int32_t *fine = t->fine + at;

	/* error has 17 bits, rate 6, an input 12: nothing leaves 32 bits */
	error = neural_shift(error * t->rate, 6);
#ifdef NBMF_NEURAL_AVX2
	{
		const __m256i most = _mm256_set1_epi32(FINE_MAX);
		const __m256i least = _mm256_set1_epi32(-FINE_MAX);
		__m256i w[2];

		for (unsigned k = 0; k < 2; k++)
		{
			__m256i *at8 = (__m256i *) (void *) (fine + 8 * k);
			__m256i move = _mm256_mullo_epi32(_mm256_cvtepi16_epi32(_mm_loadu_si128(
												  (const __m128i *) (const void *) (x + 8 * k))),
											  _mm256_set1_epi32(error));

			w[k] = _mm256_add_epi32(_mm256_loadu_si256(at8), _mm256_srai_epi32(move, 14));
			w[k] = _mm256_max_epi32(_mm256_min_epi32(w[k], most), least);
			_mm256_storeu_si256(at8, w[k]);
			w[k] = _mm256_srai_epi32(w[k], FINE_SHIFT);
		}
		_mm256_storeu_si256((__m256i *) (void *) coarse,
							_mm256_permute4x64_epi64(_mm256_packs_epi32(w[0], w[1]), 0xd8));
	}
#elif defined(NBMF_NEURAL_NEON)
	neon_move_weights(fine, coarse, x, error, FINE_MAX, FINE_SHIFT);
#else
	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
	{
		int32_t w = fine[i] + neural_shift(x[i] * error, 14);

		w = w > FINE_MAX ? FINE_MAX : w;
		w = w < -FINE_MAX ? -FINE_MAX : w;
		fine[i] = w;
		coarse[i] = (int16_t) neural_shift(w, FINE_SHIFT);
	}
#endif
}

NEURAL_INLINE void
learn(NeuralTrainer *t, const NeuralDecision *d, unsigned stage, bool bit)
{
	int32_t error = (bit ? 65536 : 0) - (int32_t) neural_squash(d->logit);

	for (unsigned k = 0; k < 3; k++)
		move_weights(t, d->weights[k], d->x, error);
	for (unsigned i = 0; i < NEURAL_CONTEXT_END; i++)
	{
		Cell *cell;
		int64_t move;

		if (d->cell[i] == 0)
			continue;
		cell = &t->cells[stage][i][d->cell[i]];
		move = ((int64_t) (bit ? CELL_ONE - 1 : 0) - cell->p) * t->step[cell->n];
		cell->p = (uint32_t) (cell->p + (move >= 0 ? move >> 16 : -(-move >> 16)));
		if (cell->n < CELL_LIMIT)
			cell->n++;
		t->image->evidence[stage][i][d->cell[i]] = t->stretch[cell->p >> 6];
	}
}

NEURAL_INLINE void
learn_node(NeuralTrainer *t, int8_t *line, uint32_t at, bool bit)
{
	size_t number =
		(size_t) (line - ((int8_t *) t->image + t->image->escape_at)) / NEURAL_ESCAPE_LINE;
	Node *node = &t->nodes[number][at];
	int32_t move = ((bit ? 65535 : 0) - node->p);
	int32_t logit;

	move = (int32_t) ((int64_t) (move >= 0 ? move : -move) * t->step[node->n] >> 16) *
		   (move >= 0 ? 1 : -1);
	node->p = (uint16_t) (node->p + move);
	if (node->n < NODE_LIMIT)
		node->n++;
	logit = neural_shift(t->stretch[node->p] * t->trust[node->n], 10);
	logit = (logit + (logit >= 0 ? ESCAPE_STEP / 2 : -ESCAPE_STEP / 2)) / ESCAPE_STEP;
	line[at] = (int8_t) (logit > 127 ? 127 : logit < -127 ? -127 : logit);
}

/* Line of an escape's context; a new one takes the place of the rarest */
NEURAL_INLINE int8_t *
escape_line(NeuralTrainer *t, uint64_t hash)
{
	const int8_t *bucket = neural_escape_bucket(t->image, hash);
	int8_t *lines = (int8_t *) t->image + (bucket - (const int8_t *) t->image);
	size_t number =
		(size_t) (lines - ((int8_t *) t->image + t->image->escape_at)) / NEURAL_ESCAPE_LINE;
	uint8_t check = neural_escape_check(hash);
	unsigned rarest = 0;

	for (unsigned i = 0; i < NEURAL_ESCAPE_WAYS; i++)
		if ((uint8_t) lines[i * NEURAL_ESCAPE_LINE] == check)
			return lines + i * NEURAL_ESCAPE_LINE;
	for (unsigned i = 1; i < NEURAL_ESCAPE_WAYS; i++)
		if (t->nodes[number + i][1].n < t->nodes[number + rarest][1].n)
			rarest = i;
	for (unsigned i = 0; i < 16; i++)
		t->nodes[number + rarest][i] = (Node){32768, 0};
	memset(lines + rarest * NEURAL_ESCAPE_LINE, 0, NEURAL_ESCAPE_LINE);
	lines[rarest * NEURAL_ESCAPE_LINE] = (int8_t) check;
	return lines + rarest * NEURAL_ESCAPE_LINE;
}

/* Fetch the nodes of an escape's context, whose line is there already */
NEURAL_INLINE void
prefetch_nodes(const NeuralTrainer *t, uint64_t hash)
{
	const int8_t *bucket = neural_escape_bucket(t->image, hash);
	uint8_t check = neural_escape_check(hash);
	size_t number =
		(size_t) (bucket - ((const int8_t *) t->image + t->image->escape_at)) / NEURAL_ESCAPE_LINE;

	for (unsigned i = 0; i < NEURAL_ESCAPE_WAYS; i++)
		if ((uint8_t) bucket[i * NEURAL_ESCAPE_LINE] == check)
			neural_prefetch(&t->nodes[number + i]);
}

/*
 * Learn a byte as an escape: its nodes in contexts from .. to - 1 and, when all
 * are there, the weights.
 */
NEURAL_INLINE void
learn_escape(NeuralTrainer *t, uint8_t y, unsigned from, unsigned to, bool weights)
{
	uint64_t hash[NEURAL_ESCAPE_CONTEXTS];
	uint32_t node = 1;

	neural_escape_hash(&t->state, &t->state.now, hash);
	if (weights)
	{
		uint64_t second[NEURAL_ESCAPE_CONTEXTS];

		for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
			second[i] = neural_escape_half(hash[i], y >> 4);
		neural_escape_prefetch(t->image, hash);
		neural_escape_prefetch(t->image, second);
		for (unsigned i = from; i < to; i++)
		{
			prefetch_nodes(t, hash[i]);
			prefetch_nodes(t, second[i]);
		}
	}
	for (unsigned half = 0; half < 2; half++)
	{
		int8_t *line[NEURAL_ESCAPE_CONTEXTS];
		const int8_t *seen[NEURAL_ESCAPE_CONTEXTS];
		uint32_t at = 1;

		for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
		{
			if (half == 1)
				hash[i] = neural_escape_half(hash[i], node & 15);
			seen[i] = weights ? neural_escape_line(t->image, hash[i]) : NULL;
		}
		for (unsigned n = 0; n < 4; n++)
		{
			bool bit = (y >> (7 - 4 * half - n)) & 1;

			if (weights)
			{
				int16_t x[NEURAL_INPUTS];
				uint32_t excluded = neural_escape_excluded(
					t->state.excluded, t->state.excluded_count, node, 4 * half + n);
				int32_t logit = neural_escape_logit(t->image, seen, at, node, excluded, x);
				int32_t error = (bit ? 65536 : 0) - (int32_t) neural_squash(logit);

				move_weights(t, t->image->escape_weights[node], x, error);
				move_weights(t, t->image->escape_excluded[excluded], x, error);
			}
			node = node << 1 | bit;
			at = at << 1 | bit;
		}
		for (unsigned i = from; i < to; i++)
		{
			line[i] = escape_line(t, hash[i]);
			at = 1;
			for (unsigned n = 0; n < 4; n++)
			{
				bool bit = (y >> (7 - 4 * half - n)) & 1;

				learn_node(t, line[i], at, bit);
				at = at << 1 | bit;
			}
		}
	}
}

/*
 * Learn one symbol, in the order in which code_symbol decides.  Returns whether
 * the slow stage was needed.
 */
NEURAL_INLINE bool
learn_symbol(NeuralTrainer *t, uint8_t y)
{
	NeuralState *s = &t->state;
	NeuralDecision d;
	unsigned guess = 0;

	s->excluded_count = 0;
	s->excluded = 0;
	learn_escape(t, y, 6, NEURAL_ESCAPE_CONTEXTS, false);
	neural_hear_matches(s);
	look_up(t, NEURAL_FAST);
	if (neural_decide_fast(s, t->image, true, &d))
	{
		bool right = d.symbol == y;
		bool taken = d.logit > FAST_LOGIT;

		learn(t, &d, STAGE_FAST, right);
		if (taken && right)
			return false;
		look_up(t, NEURAL_SLOW);
		if (taken)
		{
			neural_exclude(s, t->image, d.symbol);
			guess = 1;
		}
	}
	else
	{
		look_up(t, NEURAL_SLOW);
	}
	for (; guess < GUESSES && neural_decide(s, t->image, guess, true, &d); guess++)
	{
		bool right = d.symbol == y;

		learn(t, &d, guess == 0 ? STAGE_FIRST : STAGE_AGAIN, right);
		if (right)
			return true;
		neural_exclude(s, t->image, d.symbol);
	}
	learn_escape(t, y, 0, 6, true);
	return true;
}

/* A byte that is ahead */
typedef struct LearnAhead
{
	NeuralContext context;
	uint64_t hash[NEURAL_INPUTS];
	uint64_t escape[4]; /* of the contexts that learn from all bytes, both halves */
} LearnAhead;

#define LEARN_AHEAD 8

/*
 * Read the byte before one that is ahead, and fetch what will be needed for it;
 * then what the lines point to that were fetched some bytes ago.
 */
NEURAL_INLINE void
learn_look_ahead(NeuralTrainer *t, LearnAhead *ring, size_t at, size_t len)
{
	NeuralState *s = &t->state;
	LearnAhead *ahead = &ring[at % LEARN_AHEAD];
	uint64_t escape[NEURAL_ESCAPE_CONTEXTS];
	uint8_t y = at < len ? s->content[at] : (uint8_t) t->image->end_mark;

	if (at > 0)
		neural_read(&s->reader, s->content[at - 1]);
	ahead->context = s->reader.context;
	neural_hash_fast(&ahead->context, ahead->hash);
	neural_hash_slow(&ahead->context, ahead->hash);
	neural_escape_hash(s, &ahead->context, escape);
	for (unsigned i = 0; i < 2; i++)
	{
		ahead->escape[2 * i] = escape[6 + i];
		ahead->escape[2 * i + 1] = neural_escape_half(escape[6 + i], y >> 4);
	}
	for (unsigned i = 0; i < 4; i++)
		neural_prefetch(neural_escape_bucket(t->image, ahead->escape[i]));
	for (uint32_t left = NEURAL_FAST; left != 0; left &= left - 1)
		neural_prefetch(group_of(t, ahead->hash[neural_lowest(left)]));
	if (s->slow)
		for (uint32_t left = NEURAL_SLOW; left != 0; left &= left - 1)
			neural_prefetch(group_of(t, ahead->hash[neural_lowest(left)]));
	if (at < LEARN_AHEAD / 2)
		return;
	ahead = &ring[(at - LEARN_AHEAD / 2) % LEARN_AHEAD];
	for (unsigned i = 0; i < 4; i++)
		prefetch_nodes(t, ahead->escape[i]);
	for (uint32_t left = s->slow ? NEURAL_CONTEXTS : NEURAL_FAST; left != 0; left &= left - 1)
	{
		uint64_t hash = ahead->hash[neural_lowest(left)];
		Group *group = group_of(t, hash);

		neural_prefetch(group_counts(group, find_key(group, hash) % GROUP));
	}
}

/*
 * False if the caller wants training to end.
 */
NEURAL_INLINE bool
learn_document(NeuralTrainer *t, const uint8_t *content, size_t len)
{
	NeuralState *s = &t->state;
	size_t symbols = len <= NBMF_NEURAL_SHORT_MAX ? len + 1 : len;
	LearnAhead ring[LEARN_AHEAD];
	size_t ahead = 0;

	neural_begin(s, NULL, 0, content);
	while (ahead < symbols && ahead < LEARN_AHEAD)
		learn_look_ahead(t, ring, ahead++, len);
	for (size_t i = 0; i < symbols; i++)
	{
		uint8_t y = i < len ? content[i] : (uint8_t) t->image->end_mark;
		size_t p = t->pending_count;

		s->now = ring[i % LEARN_AHEAD].context;
		memcpy(s->hash, ring[i % LEARN_AHEAD].hash, sizeof(s->hash));
		if (i > 0)
			neural_update_matches(s, content[i - 1]);
		if (i > 0 && ahead < symbols)
			learn_look_ahead(t, ring, ahead++, len);
		t->pending_slow[p] = s->slow = learn_symbol(t, y);
		t->pending_symbol[p] = y;
		memcpy(t->pending[p], s->hash, sizeof(s->hash));
		if (++t->pending_count == PENDING_MAX)
		{
			count_pending(t);
			if (t->interrupted != NULL && t->interrupted())
				return false;
		}
	}
	count_pending(t);
	neural_finish(s);
	return t->interrupted == NULL || !t->interrupted();
}

#endif /* NBMF_NEURAL_LEARN_H */
