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
#define NODE_LIMIT 60

/* Weights have four more bits than in the image */
#define FINE_SHIFT 4
#define FINE_MAX   (10922 << FINE_SHIFT)

typedef struct Counts
{
	uint64_t hash; /* 0: free */
	uint16_t count[COUNTED];
	uint16_t other;
	uint8_t symbol[COUNTED];
} Counts;

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
	Counts *table;
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
} NeuralTrainer;

/* ----- counting contexts ----- */

NEURAL_INLINE Counts *
find_counts(const NeuralTrainer *t, uint64_t hash, bool make)
{
	uint64_t at = (hash >> (64 - t->table_bits)) & ~(uint64_t) (GROUP - 1);
	Counts *group = t->table + at;
	Counts *weakest = NULL;
	uint32_t least = SEEN_MIN + 1;

	if (hash == 0)
		hash = 1;
	for (unsigned i = 0; i < GROUP; i++)
	{
		Counts *c = &group[i];

		if (c->hash == hash)
			return c;
		if (c->hash == 0)
		{
			if (!make)
				return NULL;
			c->hash = hash;
			return c;
		}
	}
	if (!make)
		return NULL;
	for (unsigned i = 0; i < GROUP; i++)
	{
		uint32_t total = group[i].other;

		for (unsigned k = 0; k < COUNTED; k++)
			total += group[i].count[k];
		if (total < least)
		{
			least = total;
			weakest = &group[i];
		}
	}
	if (weakest != NULL)
	{
		memset(weakest, 0, sizeof(*weakest));
		weakest->hash = hash;
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

	for (uint32_t left = contexts; left != 0; left &= left - 1)
		neural_prefetch(t->table + ((s->hash[neural_lowest(left)] >> (64 - t->table_bits)) &
									~(uint64_t) (GROUP - 1)));
	for (uint32_t left = contexts; left != 0; left &= left - 1)
	{
		unsigned i = neural_lowest(left);
		const Counts *c = find_counts(t, s->hash[i], false);
		uint32_t levels = c != NULL ? levels_of(t, c) : 0;

		if (levels == 0)
			neural_clear(s, i);
		else
		{
			s->symbol[0][i] = c->symbol[0];
			s->symbol[1][i] = c->symbol[1];
			s->symbol[2][i] = c->symbol[2];
			neural_hear(s, t->image, i, levels);
			neural_set_cells(s, t->image, i);
			s->found |= 1u << i;
			s->guessing |= (uint32_t) ((levels & 15) != 0) << i;
		}
	}
}

NEURAL_INLINE void
count_pending(NeuralTrainer *t)
{
	for (size_t i = 0; i < t->pending_count; i++)
	{
		uint32_t left = t->pending_slow[i] ? NEURAL_FAST | NEURAL_SLOW : NEURAL_FAST;

		for (; left != 0; left &= left - 1)
		{
			Counts *c = find_counts(t, t->pending[i][neural_lowest(left)], true);

			if (c != NULL)
				count_symbol(c, t->pending_symbol[i]);
		}
	}
	t->pending_count = 0;
}

/* ----- learning from decisions ----- */

NEURAL_INLINE void
move_weights(NeuralTrainer *t, const int16_t *weights, const int16_t *x, int32_t error,
			 int32_t limit)
{
	size_t at = (size_t) (weights - &t->image->fast_found[0][0]);
	int16_t *coarse = &t->image->fast_found[0][0] + at;
	int32_t *fine = t->fine + at;

	/* error has 17 bits, rate 6, an input 12: nothing leaves 32 bits */
	error = neural_shift(error * t->rate, 6);
	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
	{
		int32_t w = fine[i] + neural_shift(x[i] * error, 14);

		w = w > limit ? limit : w;
		w = w < -limit ? -limit : w;
		fine[i] = w;
		coarse[i] = (int16_t) neural_shift(w, FINE_SHIFT);
	}
}

NEURAL_INLINE void
learn(NeuralTrainer *t, const NeuralDecision *d, unsigned stage, bool bit)
{
	int32_t error = (bit ? 65536 : 0) - (int32_t) neural_squash(d->logit);

	for (unsigned k = 0; k < 3; k++)
		move_weights(t, d->weights[k], d->x, error, FINE_MAX);
	for (unsigned i = 0; i < NEURAL_BIAS; i++)
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
	{
		if ((uint8_t) lines[i * NEURAL_ESCAPE_LINE] == check)
			return lines + i * NEURAL_ESCAPE_LINE;
		if (t->nodes[number + i][1].n < t->nodes[number + rarest][1].n)
			rarest = i;
	}
	for (unsigned i = 0; i < 16; i++)
		t->nodes[number + rarest][i] = (Node){32768, 0};
	memset(lines + rarest * NEURAL_ESCAPE_LINE, 0, NEURAL_ESCAPE_LINE);
	lines[rarest * NEURAL_ESCAPE_LINE] = (int8_t) check;
	return lines + rarest * NEURAL_ESCAPE_LINE;
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

	neural_escape_hash(&t->state, hash);
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
				int32_t logit = neural_escape_logit(t->image, seen, at, node, x);
				const int16_t *w = t->image->escape_weights[node];

				move_weights(t, w, x, (bit ? 65536 : 0) - (int32_t) neural_squash(logit),
							 32767 << FINE_SHIFT);
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
	learn_escape(t, y, 6, NEURAL_ESCAPE_CONTEXTS, false);
	neural_hash_fast(&s->now, s->hash);
	neural_hear_matches(s);
	look_up(t, NEURAL_FAST);
	if (neural_decide_fast(s, t->image, true, &d))
	{
		bool right = d.symbol == y;
		bool taken = d.logit > FAST_LOGIT;

		learn(t, &d, STAGE_FAST, right);
		if (taken && right)
			return false;
		neural_hash_slow(&s->now, s->hash);
		look_up(t, NEURAL_SLOW);
		if (taken)
		{
			neural_exclude(s, t->image, d.symbol);
			guess = 1;
		}
	}
	else
	{
		neural_hash_slow(&s->now, s->hash);
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

NEURAL_INLINE void
learn_document(NeuralTrainer *t, const uint8_t *content, size_t len)
{
	NeuralState *s = &t->state;
	size_t symbols = len <= NBMF_NEURAL_SHORT_MAX ? len + 1 : len;

	neural_begin(s, NULL, 0, content);
	for (size_t i = 0; i < symbols; i++)
	{
		uint8_t y = i < len ? content[i] : (uint8_t) t->image->end_mark;
		size_t p = t->pending_count;

		t->pending_slow[p] = learn_symbol(t, y);
		t->pending_symbol[p] = y;
		memcpy(t->pending[p], s->hash, sizeof(s->hash));
		if (++t->pending_count == PENDING_MAX)
			count_pending(t);
		if (i < len)
		{
			neural_read(&s->reader, y);
			s->now = s->reader.context;
			neural_update_matches(s, y);
		}
	}
	count_pending(t);
	neural_finish(s);
}

#endif /* NBMF_NEURAL_LEARN_H */
