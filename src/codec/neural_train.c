/*
 * neural_train.c
 *		Learning a model from documents.
 *
 * One pass.  Each document is first coded as the coder would, with what the
 * documents before it have taught, and every decision moves the evidence and the
 * weights that it came from; only then are its contexts counted.  A model so
 * learns to be exactly as sure as it may be about documents that it has not seen.
 * Contexts of the slow stage are counted only where the slow stage was needed,
 * which is where they will be asked.
 *
 * The trainer works on an image of its own (evidence, weights and the escape's
 * nodes are there, the slots are not), keeps finer copies of all that is in it,
 * and at the end puts the contexts that were seen often enough into slots.
 * Integers only: the same documents give the same model everywhere.
 */
#include "codec/neural_core.h"

#include <stdlib.h>

/* Symbols that are counted apart */
#define COUNTED 6

/* Contexts are searched in groups of so many */
#define GROUP 8

/* Positions whose contexts wait to be counted */
#define PENDING_MAX 16384

/* Fewer bytes teach nothing */
#define SAMPLE_MIN 1000

/* A context must be seen this often */
#define SEEN_MIN       2

#define DEFAULT_SLOTS  ((size_t) 950000)
#define DEFAULT_MEMORY ((size_t) 16 << 20)

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

typedef struct Trainer
{
	NeuralImage *image;
	NeuralState state;
	Counts *table;
	uint32_t table_bits;
	Cell cells[3][NEURAL_EVIDENCE][256];
	int32_t *fine;     /* weights, in the order of the image */
	Node (*nodes)[16]; /* of the escape's lines */
	uint64_t (*pending)[NEURAL_CONTEXTS];
	uint8_t *pending_symbol;
	uint8_t *pending_slow;
	size_t pending_count;
	int64_t rate;
	uint32_t step[1024]; /* 65536 / (n + 1.6) */
	int16_t *stretch;    /* logit of each probability of 65536 */
	uint8_t level_of[1024];
} Trainer;

/* ----- counting contexts ----- */

static Counts *
find_counts(const Trainer *t, uint64_t hash, bool make)
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

static void
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

static uint32_t
level(const Trainer *t, uint32_t count)
{
	return count < 1024 ? t->level_of[count] : 15;
}

static uint32_t
levels_of(const Trainer *t, const Counts *c)
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
static void
look_up(Trainer *t, unsigned from, unsigned to)
{
	NeuralState *s = &t->state;

	for (unsigned i = from; i < to; i++)
		__builtin_prefetch(t->table +
						   ((s->hash[i] >> (64 - t->table_bits)) & ~(uint64_t) (GROUP - 1)));
	for (unsigned i = from; i < to; i++)
	{
		const Counts *c = find_counts(t, s->hash[i], false);

		s->levels[i] = 0;
		if (c == NULL)
			continue;
		s->levels[i] = (uint16_t) levels_of(t, c);
		memcpy(s->symbols[i], c->symbol, 3);
	}
}

static void
count_pending(Trainer *t)
{
	for (size_t i = 0; i < t->pending_count; i++)
	{
		unsigned contexts = t->pending_slow[i] ? NEURAL_CONTEXTS : NEURAL_FAST;

		for (unsigned k = 0; k < contexts; k++)
		{
			Counts *c = find_counts(t, t->pending[i][k], true);

			if (c != NULL)
				count_symbol(c, t->pending_symbol[i]);
		}
	}
	t->pending_count = 0;
}

/* ----- learning from decisions ----- */

static void
move_weights(Trainer *t, const int16_t *weights, const int16_t *x, int32_t error, int32_t limit)
{
	size_t at = (size_t) (weights - &t->image->fast_found[0][0]);
	int16_t *coarse = &t->image->fast_found[0][0] + at;
	int32_t *fine = t->fine + at;

	for (unsigned i = 0; i < NEURAL_INPUTS; i++)
	{
		int64_t product = (int64_t) x[i] * error * t->rate;
		int64_t w = fine[i] + (product >= 0 ? product >> 20 : -(-product >> 20));

		if (w > limit)
			w = limit;
		if (w < -limit)
			w = -limit;
		fine[i] = (int32_t) w;
		coarse[i] = (int16_t) neural_shift(fine[i], FINE_SHIFT);
	}
}

static void
learn(Trainer *t, const NeuralDecision *d, unsigned stage, bool bit)
{
	int32_t error = (bit ? 65536 : 0) - (int32_t) neural_squash(d->logit);

	for (unsigned k = 0; k < 3; k++)
		move_weights(t, d->weights[k], d->x, error, FINE_MAX);
	for (unsigned i = 0; i < NEURAL_EVIDENCE; i++)
	{
		Cell *cell;
		int64_t move;

		if (d->cell[i] < 0)
			continue;
		cell = &t->cells[stage][i][d->cell[i]];
		move = ((int64_t) (bit ? CELL_ONE - 1 : 0) - cell->p) * t->step[cell->n];
		cell->p = (uint32_t) (cell->p + (move >= 0 ? move >> 16 : -(-move >> 16)));
		if (cell->n < CELL_LIMIT)
			cell->n++;
		t->image->evidence[stage][i][d->cell[i]] = t->stretch[cell->p >> 6];
	}
}

static void
learn_node(Trainer *t, int8_t *line, uint32_t at, bool bit)
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
	logit = t->stretch[node->p] * (int32_t) (10 * node->n + 3) / (int32_t) (10 * node->n + 18);
	logit = (logit + (logit >= 0 ? ESCAPE_STEP / 2 : -ESCAPE_STEP / 2)) / ESCAPE_STEP;
	line[at] = (int8_t) (logit > 127 ? 127 : logit < -127 ? -127 : logit);
}

/* Line of an escape's context; a new one takes the place of the rarest */
static int8_t *
escape_line(Trainer *t, uint64_t hash)
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
static void
learn_escape(Trainer *t, uint8_t y, unsigned from, unsigned to, bool weights)
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
				int16_t x[NEURAL_INPUTS] = {0};
				const int16_t *w = t->image->escape_weights[node];
				int32_t logit;

				for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
					if (seen[i] != NULL)
						x[i] = (int16_t) (seen[i][at] * ESCAPE_STEP);
				x[NEURAL_BIAS] = 256;
				logit = neural_shift(neural_dot1(x, w), ESCAPE_WEIGHT_SHIFT);
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
static bool
learn_symbol(Trainer *t, uint8_t y)
{
	NeuralState *s = &t->state;
	NeuralDecision d;
	unsigned guess = 0;

	s->excluded_count = 0;
	learn_escape(t, y, 6, NEURAL_ESCAPE_CONTEXTS, false);
	neural_hash_fast(s);
	look_up(t, 0, NEURAL_FAST);
	if (neural_decide_fast(s, t->image, &d))
	{
		bool right = d.symbol == y;
		bool taken = d.logit > FAST_LOGIT;

		learn(t, &d, STAGE_FAST, right);
		if (taken && right)
			return false;
		neural_hash_slow(s);
		look_up(t, NEURAL_FAST, NEURAL_CONTEXTS);
		if (taken)
		{
			neural_exclude(s, d.symbol);
			guess = 1;
		}
	}
	else
	{
		neural_hash_slow(s);
		look_up(t, NEURAL_FAST, NEURAL_CONTEXTS);
	}
	for (; guess < GUESSES && neural_decide(s, t->image, guess, &d); guess++)
	{
		bool right = d.symbol == y;

		learn(t, &d, guess == 0 ? STAGE_FIRST : STAGE_AGAIN, right);
		if (right)
			return true;
		neural_exclude(s, d.symbol);
	}
	learn_escape(t, y, 0, 6, true);
	return true;
}

static void
learn_document(Trainer *t, const uint8_t *content, size_t len)
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
			neural_update(s, y);
	}
	count_pending(t);
	neural_finish(s);
}

/* ----- setting up, and the end ----- */

static void
start_values(Trainer *t)
{
	NeuralImage *image = t->image;
	size_t weights = (sizeof(NeuralImage) - offsetof(NeuralImage, fast_found)) / sizeof(int16_t);
	int16_t *coarse = &image->fast_found[0][0];
	uint32_t p = 0;

	/* the smallest logit whose probability is at least p */
	for (int32_t x = -LOGIT_MAX; x <= LOGIT_MAX; x++)
		for (uint32_t end = neural_squash(x); p <= end; p++)
			t->stretch[p] = (int16_t) x;
	for (; p < 65536; p++)
		t->stretch[p] = LOGIT_MAX;
	for (unsigned n = 0; n < 1024; n++)
	{
		t->step[n] = 655360 / (10 * n + 16);
		t->level_of[n] = (uint8_t) nbmf_neural_level(n);
	}
	for (unsigned stage = 0; stage < 3; stage++)
		for (unsigned i = 0; i < NEURAL_EVIDENCE; i++)
			for (uint32_t c = 0; c < 256; c++)
			{
				uint32_t n = nbmf_neural_level_value[c >> 4];
				uint32_t rest = nbmf_neural_level_value[c & 15];
				uint64_t v = (uint64_t) CELL_ONE * (100 * n + 2) / (100 * (n + rest) + 35);

				if (i >= NEURAL_MATCH)
					v = c & 1 ? CELL_ONE / 5 * 4 : CELL_ONE / 5;
				if (v > CELL_ONE - CELL_ONE / 2000)
					v = CELL_ONE - CELL_ONE / 2000;
				t->cells[stage][i][c] = (Cell){(uint32_t) v, 0};
				image->evidence[stage][i][c] = t->stretch[v >> 6];
			}
	for (size_t i = 0; i < weights; i++)
	{
		unsigned input = i % NEURAL_INPUTS;
		bool fast = i < (size_t) (&image->rank_order[0][0][0] - coarse);
		bool escape = i >= (size_t) (&image->escape_weights[0][0] - coarse);
		int32_t w = 0;

		if (escape)
			w = input < 6 ? 16000 : input < NEURAL_ESCAPE_CONTEXTS ? 5000 : 0;
		else if (fast)
			w = input < NEURAL_FAST ? 16384 : input == NEURAL_MATCH ? 9830 : 0;
		else if (input < NEURAL_EVIDENCE)
			w = input < NEURAL_MATCH ? 5461 : 4369;
		t->fine[i] = w;
		coarse[i] = (int16_t) (w >> FINE_SHIFT);
	}
}

/* The byte that occurs least marks the end */
static uint8_t
rarest_byte(const NbmfSample *sample, size_t total)
{
	size_t count[256] = {0};
	unsigned rarest = 0;

	for (size_t i = 0; i < total; i++)
		count[sample->bytes[i]]++;
	for (unsigned c = 1; c < 256; c++)
		if (count[c] < count[rarest])
			rarest = c;
	return (uint8_t) rarest;
}

static uint32_t
total_of(const Counts *c)
{
	uint32_t total = c->other;

	for (unsigned k = 0; k < COUNTED; k++)
		total += c->count[k];
	return total;
}

static void
put_slot(const Trainer *t, NeuralImage *image, const Counts *c)
{
	uint8_t *line = (uint8_t *) image + (neural_line(image, c->hash) - (const uint8_t *) image);
	uint16_t levels = (uint16_t) levels_of(t, c);
	uint16_t check = neural_check(c->hash);

	for (unsigned i = 0; i < NEURAL_LINE_SLOTS; i++)
	{
		uint16_t other;

		memcpy(&other, line + 2 * i, 2);
		/* a slot that would never be found behind its twin is not made */
		if (other == check)
			return;
		if (other != 0)
			continue;
		memcpy(line + 2 * i, &check, 2);
		line += NEURAL_LINE_CHECKS + i * NEURAL_SLOT_LEN;
		for (unsigned k = 0; k < 3; k++)
			line[k] = c->count[k] > 0 ? c->symbol[k] : 0;
		memcpy(line + 3, &levels, 2);
		return;
	}
}

/*
 * The finished image: contexts in slots, those seen most often first, as far as
 * there is room.
 */
static NeuralImage *
finish_image(const Trainer *t, const NbmfModelParams *params)
{
	size_t slots_max = params->slots > 0 ? params->slots : DEFAULT_SLOTS;
	size_t memory = params->memory > 0 ? params->memory : DEFAULT_MEMORY;
	size_t fixed = nbmf_neural_image_size(0, t->image->escape_buckets);
	size_t entries = (size_t) 1 << t->table_bits;
	size_t histogram[65] = {0};
	size_t kept = 0;
	size_t lines;
	uint32_t floor = 64;
	NeuralImage *image;

	for (size_t i = 0; i < entries; i++)
	{
		uint32_t total = t->table[i].hash != 0 ? total_of(&t->table[i]) : 0;

		histogram[total < 64 ? total : 64]++;
	}
	while (floor > SEEN_MIN && kept + histogram[floor] <= slots_max)
		kept += histogram[floor--];
	kept = kept + histogram[floor] < slots_max ? kept + histogram[floor] : slots_max;
	lines = kept / 7 + 1;
	if (memory < fixed + NEURAL_LINE)
		return NULL;
	if (lines > (memory - fixed) / NEURAL_LINE)
		lines = (memory - fixed) / NEURAL_LINE;
	image = malloc(nbmf_neural_image_size((uint32_t) lines, t->image->escape_buckets));
	if (image == NULL)
		return NULL;
	nbmf_neural_image_init(image, (uint32_t) lines, t->image->escape_buckets);
	image->end_mark = t->image->end_mark;
	memcpy(image->evidence, t->image->evidence,
		   sizeof(NeuralImage) - offsetof(NeuralImage, evidence));
	memcpy((uint8_t *) image + image->escape_at, (uint8_t *) t->image + t->image->escape_at,
		   (size_t) t->image->escape_buckets * NEURAL_ESCAPE_LINE * NEURAL_ESCAPE_WAYS);
	kept = 0;
	for (uint32_t total = 64; total >= floor; total--)
		for (size_t i = 0; i < entries && kept < slots_max; i++)
		{
			const Counts *c = &t->table[i];
			uint32_t own = c->hash != 0 ? total_of(c) : 0;

			if ((own < 64 ? own : 64) != total || own < SEEN_MIN)
				continue;
			put_slot(t, image, c);
			kept++;
		}
	return image;
}

static void
trainer_free(Trainer *t)
{
	if (t == NULL)
		return;
	free(t->image);
	free(t->table);
	free(t->fine);
	free(t->nodes);
	free(t->pending);
	free(t->pending_symbol);
	free(t->pending_slow);
	free(t->stretch);
	free(t);
}

static Trainer *
trainer_make(size_t total)
{
	Trainer *t = calloc(1, sizeof(*t));
	uint32_t buckets = 64;
	size_t weights = (sizeof(NeuralImage) - offsetof(NeuralImage, fast_found)) / sizeof(int16_t);

	if (t == NULL)
		return NULL;
	t->table_bits = 12;
	while (t->table_bits < 22 && (size_t) 1 << t->table_bits < total)
		t->table_bits++;
	while (buckets < 16384 && (size_t) buckets * 256 < total)
		buckets *= 2;
	t->image = malloc(nbmf_neural_image_size(1, buckets));
	t->table = calloc((size_t) 1 << t->table_bits, sizeof(Counts));
	t->fine = calloc(weights, sizeof(int32_t));
	t->nodes = calloc((size_t) buckets * NEURAL_ESCAPE_WAYS, sizeof(*t->nodes));
	t->pending = malloc(PENDING_MAX * sizeof(*t->pending));
	t->pending_symbol = malloc(PENDING_MAX);
	t->pending_slow = malloc(PENDING_MAX);
	t->stretch = malloc(65536 * sizeof(int16_t));
	if (t->image == NULL || t->table == NULL || t->fine == NULL || t->nodes == NULL ||
		t->pending == NULL || t->pending_symbol == NULL || t->pending_slow == NULL ||
		t->stretch == NULL)
	{
		trainer_free(t);
		return NULL;
	}
	nbmf_neural_image_init(t->image, 1, buckets);
	start_values(t);
	return t;
}

/*
 * Train a model; *stored is malloc'd and the caller's to free.
 *
 * NBMF_ERR_CONTENT: there is too little to learn from.
 */
NbmfStatus
nbmf_model_train(const NbmfSample *sample, const NbmfModelParams *params, void **stored,
				 size_t *stored_len)
{
	size_t total = 0;
	size_t done = 0;
	NbmfStatus status = NBMF_OK;
	NeuralImage *image = NULL;
	Trainer *t;

	for (size_t i = 0; i < sample->count; i++)
		total += sample->sizes[i];
	if (sample->count < 2 || total < SAMPLE_MIN)
		return NBMF_ERR_CONTENT;
	t = trainer_make(total);
	if (t == NULL)
		return NBMF_ERR_MEMORY;
	t->image->end_mark = rarest_byte(sample, total);
	for (size_t i = 0; i < sample->count && status == NBMF_OK; i++)
	{
		/* first big steps, then small ones */
		t->rate = (int64_t) (128 / (1 + done / 100000));
		if (t->rate < 2)
			t->rate = 2;
		learn_document(t, sample->bytes + done, sample->sizes[i]);
		done += sample->sizes[i];
		if (params->interrupted != NULL && params->interrupted())
			status = NBMF_ERR_INTERRUPTED;
	}
	if (status == NBMF_OK)
	{
		image = finish_image(t, params);
		status = image != NULL ? nbmf_neural_store(image, stored, stored_len) : NBMF_ERR_MEMORY;
	}
	free(image);
	trainer_free(t);
	return status;
}
