/*
 * neural_train.c
 *		Learning a model from documents.
 *
 * One pass, of which models of several sizes can be made.  Each document is first
 * coded as the coder would, with what the documents before it have taught, and every
 * decision moves the evidence and the weights that it came from; only then are its contexts counted.  A model so
 * learns to be exactly as sure as it may be about documents that it has not seen.
 * Contexts of the slow stage are counted only where the slow stage was needed,
 * which is where they will be asked.
 *
 * The trainer works on an image of its own (evidence, weights and the escape's
 * nodes are there, the slots are not), keeps finer copies of all that is in it,
 * and at the end puts the contexts that were seen often enough into slots.
 * Documents are taken in a pseudo-random order: those of a column often come sorted,
 * and weights that saw one sort last would be the weights of that sort.
 * Integers only: the same documents give the same model everywhere.
 */
#include "codec/neural_learn.h"

#include <stdlib.h>

/* Fewer bytes teach nothing */
#define SAMPLE_MIN 1000

/*
 * The escape of a small model is small too.  A bucket takes about 16 bytes, stored: of
 * chat, logs and abstracts a model for 3 to 10 MB saved most with a bucket for 16 slots,
 * of those for 1, 4, 16, 64 and 256.
 */
#define SLOTS_PER_BUCKET   16
#define ESCAPE_BUCKETS_MIN 64

#define DEFAULT_SLOTS      ((size_t) 950000)
#define DEFAULT_MEMORY     ((size_t) 16 << 20)

/* ----- setting up, and the end ----- */

static void
start_values(NeuralTrainer *t)
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
	for (unsigned n = 0; n <= NODE_LIMIT; n++)
		t->trust[n] = (int32_t) (1024 * (10 * n + 3) / (10 * n + 18));
	for (unsigned stage = 0; stage < 3; stage++)
	{
		for (unsigned i = 0; i < NEURAL_CONTEXT_END; i++)
			for (uint32_t c = 1; c < 256; c++)
			{
				uint32_t n = nbmf_neural_level_value[c >> 4];
				uint32_t rest = nbmf_neural_level_value[c & 15];
				uint64_t v = (uint64_t) CELL_ONE * (100 * n + 2) / (100 * (n + rest) + 35);

				/* a match: the longer, the surer, until documents say otherwise */
				if (i < NEURAL_CONTEXT)
				{
					uint32_t bucket = c >> 1 & 31;

					v = CELL_ONE / (bucket < 16 ? bucket + 4 : 16 * (bucket - 8));
					if (c & 1)
						v = CELL_ONE - v;
				}
				if (v > CELL_ONE - CELL_ONE / 2000)
					v = CELL_ONE - CELL_ONE / 2000;
				t->cells[stage][i][c] = (Cell){(uint32_t) v, 0};
				image->evidence[stage][i][c] = t->stretch[v >> 6];
			}
		image->evidence[stage][NEURAL_BIAS][0] = 256;
	}
	for (size_t i = 0; i < weights; i++)
	{
		unsigned input = i % NEURAL_INPUTS;
		bool fast = i < (size_t) (&image->rank_order[0][0][0] - coarse);
		bool escape = i >= (size_t) (&image->escape_weights[0][0] - coarse);
		bool excluded = i >= (size_t) (&image->escape_excluded[0][0] - coarse);
		int32_t w = 0;

		if (excluded)
			w = 0;
		else if (escape)
			w = input < 6 ? 16000 : input < NEURAL_ESCAPE_CONTEXTS ? 5000 : 0;
		else if (fast)
			w = NEURAL_FAST >> input & 1 ? 16384 : input == NEURAL_MATCH_LONG ? 19660 : 0;
		else if (input < NEURAL_CONTEXT_END)
			w = input >= NEURAL_CONTEXT ? 5461 : 4369;
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

/* Counts and hash of an entry, of which there are GROUP in each group */
static const Counts *
entry_of(const NeuralTrainer *t, size_t entry, uint64_t *hash)
{
	size_t number = entry / GROUP;
	Group *group = t->table + number;

	*hash = (group->key[entry % GROUP] & KEY_HASH) | (uint64_t) (number >> (t->table_bits - 5))
														 << 62;
	return group_counts(group, entry % GROUP);
}

static void
put_slot(const NeuralTrainer *t, NeuralImage *image, size_t entry)
{
	uint64_t hash;
	const Counts *c = entry_of(t, entry, &hash);
	uint8_t *line = (uint8_t *) image + (neural_line(image, hash) - (const uint8_t *) image);
	uint16_t levels = (uint16_t) levels_of(t, c);
	uint16_t check = neural_check(hash);

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
 * Buckets of the escape in a finished image: so many of the trainer's, which are in
 * the order of their hashes, become one that keeps the lines which were learned from
 * most.
 */
static void
put_escape(const NeuralTrainer *t, NeuralImage *image)
{
	uint32_t merged = t->image->escape_buckets / image->escape_buckets * NEURAL_ESCAPE_WAYS;
	const uint8_t *from = (const uint8_t *) t->image + t->image->escape_at;
	uint8_t *to = (uint8_t *) image + image->escape_at;
	const Node(*nodes)[16] = (const Node(*)[16]) t->nodes;

	for (uint32_t b = 0; b < image->escape_buckets; b++)
	{
		uint16_t seen[NEURAL_ESCAPE_WAYS] = {0};

		for (uint32_t i = 0; i < merged; i++, from += NEURAL_ESCAPE_LINE, nodes++)
		{
			unsigned place = 0;

			if (from[0] == 0)
				continue;
			/* that of its twin, which would hide it, or of the one seen least */
			for (unsigned w = 0; w < NEURAL_ESCAPE_WAYS; w++)
			{
				if (to[w * NEURAL_ESCAPE_LINE] == from[0])
				{
					place = w;
					break;
				}
				if (seen[w] < seen[place])
					place = w;
			}
			if (to[place * NEURAL_ESCAPE_LINE] != 0 && seen[place] >= nodes[0][1].n)
				continue;
			seen[place] = nodes[0][1].n;
			memcpy(to + place * NEURAL_ESCAPE_LINE, from, NEURAL_ESCAPE_LINE);
		}
		to += NEURAL_ESCAPE_LINE * NEURAL_ESCAPE_WAYS;
	}
}

/*
 * The finished image: contexts in slots, those seen most often first, as far as
 * there is room.
 */
static NeuralImage *
finish_image(const NeuralTrainer *t, const NbmfModelParams *params)
{
	size_t slots_max = params->slots > 0 ? params->slots : DEFAULT_SLOTS;
	size_t memory = params->memory > 0 ? params->memory : DEFAULT_MEMORY;
	uint32_t escape_buckets = t->image->escape_buckets;
	size_t fixed;
	size_t entries = (size_t) 1 << t->table_bits;
	uint8_t *totals = malloc(entries);
	uint32_t *order = NULL;
	size_t histogram[65] = {0};
	size_t start[65];
	size_t kept = 0;
	size_t lines;
	uint32_t floor = 64;
	NeuralImage *image = NULL;

	if (totals == NULL)
		return NULL;
	while (escape_buckets > ESCAPE_BUCKETS_MIN && escape_buckets > slots_max / SLOTS_PER_BUCKET)
		escape_buckets /= 2;
	fixed = nbmf_neural_image_size(0, escape_buckets);
	for (size_t i = 0; i < entries; i++)
	{
		const Group *group = t->table + i / GROUP;
		uint64_t hash;
		uint32_t total = (uint32_t) (group->key[i % GROUP] >> 62);

		if (total >= SEEN_MIN)
			total = total_of(entry_of(t, i, &hash));
		totals[i] = (uint8_t) (total < 64 ? total : 64);
		histogram[totals[i]]++;
	}
	/* where those seen so often begin among the kept ones */
	while (floor > SEEN_MIN && kept + histogram[floor] <= slots_max)
	{
		start[floor] = kept;
		kept += histogram[floor--];
	}
	start[floor] = kept;
	kept = kept + histogram[floor] < slots_max ? kept + histogram[floor] : slots_max;
	lines = kept / 7 + 1;
	if (memory < fixed + NEURAL_LINE)
		goto end;
	if (lines > (memory - fixed) / NEURAL_LINE)
		lines = (memory - fixed) / NEURAL_LINE;
	image = malloc(nbmf_neural_image_size((uint32_t) lines, escape_buckets));
	order = malloc((kept + 1) * sizeof(*order));
	if (image == NULL || order == NULL)
	{
		free(image);
		image = NULL;
		goto end;
	}
	nbmf_neural_image_init(image, (uint32_t) lines, escape_buckets);
	image->end_mark = t->image->end_mark;
	memcpy(image->evidence, t->image->evidence,
		   sizeof(NeuralImage) - offsetof(NeuralImage, evidence));
	put_escape(t, image);
	for (size_t i = 0; i < entries; i++)
		if (totals[i] >= floor && start[totals[i]] < kept)
			order[start[totals[i]]++] = (uint32_t) i;
	for (size_t i = 0; i < kept; i++)
	{
		if (i + 8 < kept)
		{
			uint64_t hash;

			neural_prefetch(entry_of(t, order[i + 8], &hash));
			neural_prefetch(neural_line(image, hash));
		}
		if (i + 16 < kept)
			neural_prefetch(t->table + order[i + 16] / GROUP);
		put_slot(t, image, order[i]);
	}
end:
	free(order);
	free(totals);
	return image;
}

static void
trainer_free(NeuralTrainer *t)
{
	if (t == NULL)
		return;
	free(t->image);
	free(t->table_room);
	free(t->fine);
	free(t->nodes);
	free(t->pending);
	free(t->pending_symbol);
	free(t->pending_slow);
	free(t->stretch);
	free(t);
}

/*
 * A permutation of the sample, the same for the same number of documents (Fisher and
 * Yates, from the upper bits of Knuth's linear congruential generator), and where each
 * document begins.  Both are malloc'd as one array of twice the number.
 */
static size_t *
shuffled(const NbmfSample *sample)
{
	size_t *order = malloc(2 * sample->count * sizeof(*order));
	uint64_t random = 1;
	size_t at = 0;

	if (order == NULL)
		return NULL;
	for (size_t i = 0; i < sample->count; i++)
	{
		order[i] = i;
		order[sample->count + i] = at;
		at += sample->sizes[i];
	}
	for (size_t i = sample->count; i > 1; i--)
	{
		size_t other;
		size_t last = order[i - 1];

		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		other = (size_t) ((random >> 33) % i);
		order[i - 1] = order[other];
		order[other] = last;
	}
	return order;
}

static NeuralTrainer *
trainer_make(size_t total)
{
	NeuralTrainer *t = calloc(1, sizeof(*t));
	uint32_t buckets = ESCAPE_BUCKETS_MIN;
	size_t weights = (sizeof(NeuralImage) - offsetof(NeuralImage, fast_found)) / sizeof(int16_t);

	if (t == NULL)
		return NULL;
	t->table_bits = 12;
	while (t->table_bits < 22 && (size_t) 1 << t->table_bits < 2 * total)
		t->table_bits++;
	while (buckets < 16384 && (size_t) buckets * 256 < total)
		buckets *= 2;
	t->image = malloc(nbmf_neural_image_size(1, buckets));
	t->table_room = calloc(((size_t) 1 << t->table_bits) / GROUP + 1, sizeof(Group));
	t->fine = calloc(weights, sizeof(int32_t));
	t->nodes = calloc((size_t) buckets * NEURAL_ESCAPE_WAYS, sizeof(*t->nodes));
	t->pending = malloc(PENDING_MAX * sizeof(*t->pending));
	t->pending_symbol = malloc(PENDING_MAX);
	t->pending_slow = malloc(PENDING_MAX);
	t->stretch = malloc(65536 * sizeof(int16_t));
	if (t->image == NULL || t->table_room == NULL || t->fine == NULL || t->nodes == NULL ||
		t->pending == NULL || t->pending_symbol == NULL || t->pending_slow == NULL ||
		t->stretch == NULL)
	{
		trainer_free(t);
		return NULL;
	}
	t->table = (Group *) (void *) (((uintptr_t) t->table_room + NEURAL_LINE - 1) &
								   ~(uintptr_t) (NEURAL_LINE - 1));
	nbmf_neural_image_init(t->image, 1, buckets);
	start_values(t);
	return t;
}

/*
 * Learn from documents.  The contexts are counted then, and none is left out yet, so
 * that models of any size can be made of one pass over the documents.
 *
 * NBMF_ERR_CONTENT: there is too little to learn from.
 */
NbmfStatus
nbmf_model_learn(const NbmfSample *sample, bool (*interrupted)(void),
				 struct NeuralTrainer **learned)
{
	size_t total = 0;
	size_t done = 0;
	const NeuralMethods *methods = nbmf_neural_methods();
	size_t *order;
	bool going = true;
	NeuralTrainer *t;

	for (size_t i = 0; i < sample->count; i++)
		total += sample->sizes[i];
	if (sample->count < 2 || total < SAMPLE_MIN)
		return NBMF_ERR_CONTENT;
	order = shuffled(sample);
	t = order != NULL ? trainer_make(total) : NULL;
	if (t == NULL)
	{
		free(order);
		return NBMF_ERR_MEMORY;
	}
	t->interrupted = interrupted;
	t->image->end_mark = rarest_byte(sample, total);
	for (size_t k = 0; k < sample->count && going; k++)
	{
		size_t i = order[k];

		/* first big steps, then smaller ones */
		t->rate = (int32_t) (4 + 16 / (1 + done / 300000));
		going = methods->learn(t, sample->bytes + order[sample->count + i], sample->sizes[i]);
		done += sample->sizes[i];
	}
	free(order);
	if (!going)
	{
		trainer_free(t);
		return NBMF_ERR_INTERRUPTED;
	}
	*learned = t;
	return NBMF_OK;
}

/*
 * Make a model of what was learned; *stored is malloc'd and the caller's to free.
 */
NbmfStatus
nbmf_model_make(const struct NeuralTrainer *learned, const NbmfModelParams *params, void **stored,
				size_t *stored_len)
{
	NeuralImage *image = finish_image(learned, params);
	NbmfStatus status = image != NULL
							? nbmf_neural_store(image, params->interrupted, stored, stored_len)
							: NBMF_ERR_MEMORY;

	free(image);
	return status;
}

void
nbmf_learned_free(struct NeuralTrainer *learned)
{
	trainer_free(learned);
}

/*
 * Train one model; *stored is malloc'd and the caller's to free.
 */
NbmfStatus
nbmf_model_train(const NbmfSample *sample, const NbmfModelParams *params, void **stored,
				 size_t *stored_len)
{
	struct NeuralTrainer *learned;
	NbmfStatus status = nbmf_model_learn(sample, params->interrupted, &learned);

	if (status != NBMF_OK)
		return status;
	status = nbmf_model_make(learned, params, stored, stored_len);
	nbmf_learned_free(learned);
	return status;
}
