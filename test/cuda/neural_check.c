/*
 * neural_check.c
 *		Whether a device codes documents to the same bits as the processor, and how
 *		fast it is next to it.
 *
 *	neural_check [OPTION ...] [FILE]
 *
 * FILE holds documents, each behind its length (4 bytes, little-endian); without
 * one they are made up.  As in test/bench/neural.c, a hash of a document's number
 * decides whether it may train or is held out, and 4 MB of the former train.
 *
 *	--model PATH      the stored model; trained, and written there, if it is not there
 *	--documents N     held-out documents to check with (4096), evenly spread
 *	--longest N       leave longer documents out (65536 bytes)
 *	--shapes LIST     lanes:block:resident, separated by commas; see batch.h
 *	--batches LIST    documents of a batch to time; 0 for none
 *
 * What is checked, with each shape: payloads are, byte for byte, those of the coder
 * in plain C and of those for vectors, and come back as the documents; damaged and
 * cut ones, and buffers that are too small, give the answer that the processor
 * gives; nothing is written outside a document's place.  Exits 1 if anything differs.
 */
#define _GNU_SOURCE

#include "batch.h"
#include "codec/codec.h"
#include "neural_sample.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define TRAIN_BYTES ((size_t) 4 << 20)
#define MADE_UP     2000
#define GUARD       16 /* bytes between documents, which must stay as they are */
#define GUARD_BYTE  0xa5
#define ROOM_OVER   32 /* of a payload, beyond the content's length */
#define PASSES      3
#define SHAPES_MAX  32

typedef struct Document
{
	const uint8_t *bytes;
	size_t len;
	uint8_t *payload; /* that of the plain coder */
	size_t payload_len;
} Document;

/* One call of the coder on the processor */
typedef struct Call
{
	bool decode;
	bool bounded;
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t room;
	size_t made;
	NbmfStatus status;
} Call;

static uint8_t *sample_bytes;
static size_t *sample_sizes;
static size_t sample_count;
static size_t sample_len;
static Document *docs;
static size_t doc_count;
static NbmfModel model;

static void *
need(void *p)
{
	if (p == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	return p;
}

static void
fail(const char *what, const char *name)
{
	fprintf(stderr, "%s: %s\n", name, what);
	exit(1);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static uint32_t
random_next(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t) (state >> 32);
}

static bool
is_bounded(size_t len)
{
	return len > NBMF_NEURAL_SHORT_MAX;
}

/* ----- documents and model ----- */

static uint8_t *
read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
	{
		perror(path);
		exit(1);
	}
	rewind(file);
	data = need(malloc((size_t) size + 1));
	if (fread(data, 1, (size_t) size, file) != (size_t) size)
		fail("cannot be read", path);
	fclose(file);
	*len = (size_t) size;
	return data;
}

/*
 * Documents of the unit tests' kind; every fourth is many of them in one, with
 * repetitions near and far, and some bytes that no model expects; a few of those
 * are long enough for the long form, and the first is empty.
 */
static uint8_t *
make_up(size_t *len)
{
	uint8_t *data = need(malloc(MADE_UP * (NEURAL_DOCUMENT_ROOM + 4) * 8));
	size_t at = 0;

	for (uint32_t i = 0; i < MADE_UP; i++)
	{
		uint8_t *bytes = data + at + 4;
		size_t size = i == 0 ? 0 : neural_document(i, bytes);

		if (i % 4 == 3)
		{
			unsigned pieces = i % 500 == 3 ? 200 : 2 + random_next() % 20;

			for (unsigned p = 1; p < pieces; p++)
				size += neural_document(i + random_next() % 5, bytes + size);
			for (unsigned p = 0; p < pieces; p++)
				bytes[random_next() % size] = (uint8_t) random_next();
		}
		for (unsigned b = 0; b < 4; b++)
			data[at + b] = (uint8_t) (size >> (8 * b));
		at += 4 + size;
	}
	*len = at;
	return data;
}

static void
divide(const uint8_t *data, size_t len, size_t most, size_t longest)
{
	size_t count[2] = {0, 0};
	size_t total = 0;
	double share;
	double gathered = 0;
	size_t held = 0;

	for (unsigned pass = 0; pass < 2; pass++)
	{
		for (size_t at = 0, number = 0; at + 4 <= len; number++)
		{
			size_t size = (size_t) data[at] | (size_t) data[at + 1] << 8 |
						  (size_t) data[at + 2] << 16 | (size_t) data[at + 3] << 24;
			unsigned out = (uint32_t) number * UINT32_C(2654435761) >> 20 & 1;
			const uint8_t *bytes = data + at + 4;

			if (size > len - at - 4)
				fail("ends inside a document", "documents");
			at += 4 + size;
			if (out == 1 && size > longest)
				continue;
			if (pass == 0)
			{
				count[out]++;
				total += out == 0 ? size : 0;
				continue;
			}
			if (out == 1)
			{
				if (count[1] <= most || held * most / count[1] != (held + 1) * most / count[1])
					docs[doc_count++] = (Document){.bytes = bytes, .len = size};
				held++;
				continue;
			}
			gathered += share;
			if (gathered < 1)
				continue;
			gathered -= 1;
			if (size == 0 || sample_len + size > TRAIN_BYTES)
				continue;
			memcpy(sample_bytes + sample_len, bytes, size);
			sample_sizes[sample_count++] = size;
			sample_len += size;
		}
		share = total > TRAIN_BYTES ? (double) TRAIN_BYTES / (double) total : 1;
		if (pass == 0)
		{
			sample_bytes = need(malloc(TRAIN_BYTES + 1));
			sample_sizes = need(malloc((count[0] + 1) * sizeof(*sample_sizes)));
			docs = need(malloc((count[1] + 1) * sizeof(*docs)));
		}
	}
	if (doc_count == 0)
		fail("no documents to check with", "documents");
}

static void
get_model(const char *path)
{
	void *stored;
	size_t stored_len;
	void *image;

	if (path != NULL && access(path, F_OK) == 0)
		stored = read_file(path, &stored_len);
	else
	{
		NbmfModelParams params = {.slots = 0};
		NbmfSample sample = {sample_bytes, sample_sizes, sample_count};
		double start = seconds();

		if (nbmf_model_train(&sample, &params, &stored, &stored_len) != NBMF_OK)
			fail("training failed", "model");
		printf("trained on %zu documents, %zu bytes, in %.1f s\n", sample_count, sample_len,
			   seconds() - start);
		if (path != NULL)
		{
			FILE *file = fopen(path, "wb");

			if (file == NULL || fwrite(stored, 1, stored_len, file) != stored_len ||
				fclose(file) != 0)
				fail("cannot be written", path);
		}
	}
	if (nbmf_model_memory(stored, stored_len, &model.image_len) != NBMF_OK ||
		posix_memalign(&image, 64, model.image_len) != 0 ||
		nbmf_model_load(stored, stored_len, image, model.image_len) != NBMF_OK)
		fail("is no model", path != NULL ? path : "model");
	model.image = image;
}

/* ----- the processor ----- */

typedef struct Work
{
	Call *calls;
	size_t count;
	size_t next;
} Work;

static void *
worker(void *arg)
{
	Work *work = arg;
	void *state = need(calloc(1, nbmf_neural_state_size()));
	size_t i;

	while ((i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->count)
	{
		Call *c = &work->calls[i];
		NbmfNeuralForm form = c->bounded ? NBMF_NEURAL_LONG : NBMF_NEURAL_SHORT;

		c->made = 0;
		if (c->decode)
			c->status = nbmf_neural_decode(state, model.image, form, NULL, 0, c->in, c->in_len,
										   c->out, c->room, &c->made);
		else
			c->status = nbmf_neural_encode(state, model.image, form, NULL, 0, c->in, c->in_len,
										   c->out, c->room, &c->made);
	}
	free(state);
	return NULL;
}

/* Returns seconds */
static double
on_processor(Call *calls, size_t count, unsigned threads)
{
	Work work = {calls, count, 0};
	pthread_t *ids = need(malloc(threads * sizeof(*ids)));
	double start = seconds();

	for (unsigned t = 1; t < threads; t++)
		if (pthread_create(&ids[t], NULL, worker, &work) != 0)
			fail("no thread", "processor");
	worker(&work);
	for (unsigned t = 1; t < threads; t++)
		pthread_join(ids[t], NULL);
	free(ids);
	return seconds() - start;
}

static unsigned
cores(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (unsigned) n : 1;
}

/* Payloads of all documents by the plain coder, compared with those of the others */
static void
make_payloads(void)
{
	Call *calls = need(calloc(doc_count, sizeof(*calls)));
	size_t bytes = 0;
	size_t payload_bytes = 0;

	for (unsigned pass = 0; pass < NBMF_NEURAL_CODERS; pass++)
	{
		nbmf_neural_limit = (NbmfNeuralCoder) pass;
		for (size_t i = 0; i < doc_count; i++)
			calls[i] = (Call){.bounded = is_bounded(docs[i].len),
							  .in = docs[i].bytes,
							  .in_len = docs[i].len,
							  .out = need(malloc(2 * docs[i].len + 100)),
							  .room = 2 * docs[i].len + 100};
		on_processor(calls, doc_count, cores());
		for (size_t i = 0; i < doc_count; i++)
		{
			Document *d = &docs[i];

			if (calls[i].status != NBMF_OK)
				fail("encoding failed", "processor");
			if (pass == 0)
			{
				d->payload = calls[i].out;
				d->payload_len = calls[i].made;
				bytes += d->len;
				payload_bytes += d->payload_len;
				continue;
			}
			if (calls[i].made != d->payload_len ||
				memcmp(calls[i].out, d->payload, d->payload_len) != 0)
				fail("a coder for vectors differs from the plain one", "processor");
			free(calls[i].out);
		}
	}
	free(calls);
	printf("%zu documents held out, %zu bytes, payloads %zu bytes\n", doc_count, bytes,
		   payload_bytes);
}

/* MB/s of one core and of all, encoding and decoding */
static void
time_processor(void)
{
	Call *calls = need(calloc(doc_count, sizeof(*calls)));
	unsigned counts[2] = {1, cores()};

	for (unsigned k = 0; k < 2; k++)
	{
		/* of one core, a part of the documents */
		size_t step = k == 0 && doc_count > 2000 ? doc_count / 1000 : 1;
		double best[2] = {1e9, 1e9};
		size_t bytes = 0;

		for (unsigned pass = 0; pass < 2 * PASSES; pass++)
		{
			bool decode = pass & 1;
			size_t n = 0;
			double took;

			bytes = 0;
			for (size_t i = 0; i < doc_count; i += step)
			{
				Document *d = &docs[i];

				if (is_bounded(d->len))
					continue;
				calls[n++] = (Call){.decode = decode,
									.in = decode ? d->payload : d->bytes,
									.in_len = decode ? d->payload_len : d->len,
									.out = need(malloc(decode ? d->len + 1 : d->payload_len + 1)),
									.room = decode ? d->len : d->payload_len};
				bytes += d->len;
			}
			took = on_processor(calls, n, counts[k]);
			for (size_t i = 0; i < n; i++)
			{
				if (calls[i].status != NBMF_OK)
					fail("a call failed", "processor");
				free(calls[i].out);
			}
			if (took < best[decode])
				best[decode] = took;
		}
		printf("| processor, %u thread%s | | | %.1f | | %.1f | |\n", counts[k],
			   counts[k] > 1 ? "s" : "", (double) bytes / best[0] / 1e6,
			   (double) bytes / best[1] / 1e6);
	}
	free(calls);
}

/* ----- the device ----- */

/* A batch that is laid out in memory, and what must come of it */
typedef struct Layout
{
	BatchItem *items;
	const Call **expected;
	size_t count;
	uint8_t *content;
	size_t content_len;
	uint8_t *payload;
	size_t payload_len;
} Layout;

static Layout layout;
static size_t content_room;
static size_t payload_room;

/* Lay out calls of one direction; their out and made are the processor's answer */
static void
lay_out(const Call *const *calls, size_t count)
{
	bool decode = calls[0]->decode;

	layout.count = count;
	layout.content_len = 0;
	layout.payload_len = 0;
	for (size_t i = 0; i < count; i++)
	{
		const Call *c = calls[i];
		size_t content_len = decode ? c->room : c->in_len;
		size_t payload_len = decode ? c->in_len : c->room;

		layout.expected[i] = c;
		layout.items[i] = (BatchItem){.content_at = layout.content_len,
									  .payload_at = layout.payload_len,
									  .content_len = (uint32_t) content_len,
									  .payload_len = (uint32_t) payload_len,
									  .bounded = c->bounded,
									  .status = 0xff};
		if (layout.content_len + content_len + GUARD > content_room ||
			layout.payload_len + payload_len + GUARD > payload_room)
			fail("no room", "batch");
		memset(layout.content + layout.content_len, GUARD_BYTE, content_len + GUARD);
		memset(layout.payload + layout.payload_len, GUARD_BYTE, payload_len + GUARD);
		memcpy(decode ? layout.payload + layout.payload_len : layout.content + layout.content_len,
			   c->in, c->in_len);
		layout.content_len += content_len + GUARD;
		layout.payload_len += payload_len + GUARD;
	}
}

/* Compare what the device has made with what it should have; returns differences */
static size_t
compare(const char *what)
{
	bool decode = layout.expected[0]->decode;
	size_t differences = 0;

	for (size_t i = 0; i < layout.count; i++)
	{
		const Call *c = layout.expected[i];
		const BatchItem *item = &layout.items[i];
		const uint8_t *out =
			decode ? layout.content + item->content_at : layout.payload + item->payload_at;
		const char *how = NULL;

		if (item->status != (uint8_t) c->status)
			how = "status";
		else if (c->status == NBMF_OK && item->made != c->made)
			how = "length";
		else if (c->status == NBMF_OK && memcmp(out, c->out, c->made) != 0)
			how = "bytes";
		for (size_t g = 0; g < GUARD && how == NULL; g++)
			if (out[c->room + g] != GUARD_BYTE)
				how = "bytes behind it";
		if (how != NULL && differences++ < 5)
			fprintf(stderr, "%s: document %zu, %zu bytes: %s (status %d, %d expected)\n", what, i,
					c->in_len, how, item->status, (int) c->status);
	}
	return differences;
}

static size_t
run_and_compare(const BatchShape *shape, const char *what, BatchTimes *times)
{
	for (size_t i = 0; i < layout.count; i++)
		layout.items[i].status = 0xff;
	if (!batch_run(shape, layout.expected[0]->decode, layout.items, layout.count, layout.content,
				   layout.content_len, layout.payload, layout.payload_len, times))
		exit(1);
	return compare(what);
}

/* The two calls of a document */
static Call
encode_call(const Document *d, size_t room)
{
	return (Call){.bounded = is_bounded(d->len),
				  .in = d->bytes,
				  .in_len = d->len,
				  .out = d->payload,
				  .room = room,
				  .made = d->payload_len,
				  .status = room >= d->payload_len ? NBMF_OK : NBMF_ERR_SPACE};
}

static Call
decode_call(const Document *d)
{
	return (Call){.decode = true,
				  .bounded = is_bounded(d->len),
				  .in = d->payload,
				  .in_len = d->payload_len,
				  .out = (uint8_t *) (uintptr_t) d->bytes,
				  .room = d->len,
				  .made = d->len};
}

/* A payload that is not what it was; the processor says what must come of it */
static Call
damaged_call(const Document *d, unsigned how)
{
	size_t len = d->payload_len;
	uint8_t *bytes = need(malloc(len + 9));
	Call c = decode_call(d);

	memcpy(bytes, d->payload, len);
	switch (how % 7)
	{
		case 0:
			if (len > 0)
				bytes[random_next() % len] ^= (uint8_t) (1u << random_next() % 8);
			break;
		case 1:
			len = random_next() % (len + 1);
			break;
		case 2:
			for (size_t i = 0; i < len; i++)
				bytes[i] = (uint8_t) random_next();
			break;
		case 3: /* more room, so that what comes of damage has where to go */
			if (len > 0)
				bytes[random_next() % len] = (uint8_t) random_next();
			c.room =
				2 * d->len + 100 < NBMF_NEURAL_SHORT_MAX ? 2 * d->len + 100 : NBMF_NEURAL_SHORT_MAX;
			break;
		case 4:
			if (c.room > 0)
				c.room--;
			break;
		case 5:
			for (unsigned i = 0; i < 9; i++)
				bytes[len++] = (uint8_t) random_next();
			break;
		case 6:
			c.bounded = !c.bounded;
			break;
	}
	if (!c.bounded && c.room > NBMF_NEURAL_SHORT_MAX)
		c.room = NBMF_NEURAL_SHORT_MAX;
	c.in = bytes;
	c.in_len = len;
	c.out = need(malloc(c.room + 1));
	return c;
}

/* Everything but speed, with all shapes; returns differences */
static size_t
check(const BatchShape *shapes, size_t shape_count)
{
	size_t count = 3 * doc_count;
	Call *calls = need(malloc(2 * count * sizeof(*calls)));
	const Call **at = need(malloc(count * sizeof(*at)));
	size_t refused = 0;
	size_t differences = 0;

	/* encoding: with room to spare, just enough, and a byte too little */
	for (size_t i = 0; i < doc_count; i++)
		for (unsigned k = 0; k < 3; k++)
			calls[3 * i + k] = encode_call(
				&docs[i], k == 0   ? docs[i].payload_len + ROOM_OVER
						  : k == 1 ? docs[i].payload_len
								   : docs[i].payload_len - (docs[i].payload_len > 0 ? 1 : 0));
	/* decoding: as it was, and twice damaged */
	for (size_t i = 0; i < doc_count; i++)
		for (unsigned k = 0; k < 3; k++)
			calls[count + 3 * i + k] =
				k == 0 ? decode_call(&docs[i]) : damaged_call(&docs[i], (unsigned) (2 * i + k));
	for (unsigned coder = 0; coder < NBMF_NEURAL_CODERS; coder++)
	{
		nbmf_neural_limit = (NbmfNeuralCoder) (NBMF_NEURAL_WIDE - coder);
		/* the first of each three must not overwrite the document with something else */
		for (size_t i = 0; i < doc_count; i++)
		{
			Call *first = &calls[count + 3 * i];

			first->out = need(malloc(first->room + 1));
		}
		on_processor(calls + count, count, cores());
		for (size_t i = 0; i < doc_count; i++)
		{
			Call *first = &calls[count + 3 * i];

			if (first->status != NBMF_OK || first->made != docs[i].len ||
				memcmp(first->out, docs[i].bytes, docs[i].len) != 0)
				fail("a document does not come back", "processor");
			free(first->out);
			first->out = (uint8_t *) (uintptr_t) docs[i].bytes;
		}
	}
	for (size_t i = 0; i < count; i++)
		refused += calls[count + i].status != NBMF_OK;

	for (size_t n = 0; n < shape_count; n++)
	{
		BatchTimes times;
		size_t found[2];

		for (unsigned decode = 0; decode < 2; decode++)
		{
			for (size_t i = 0; i < count; i++)
				at[i] = &calls[decode * count + i];
			lay_out(at, count);
			found[decode] = run_and_compare(&shapes[n], decode ? "decoding" : "encoding", &times);
		}
		printf("%u lanes, block of %u, resident %u: %zu encodings, %zu decodings (of %zu damaged "
			   "payloads %zu refused): %zu and %zu differ\n",
			   shapes[n].lanes, shapes[n].block, shapes[n].resident, count, count, 2 * doc_count,
			   refused, found[0], found[1]);
		fflush(stdout);
		differences += found[0] + found[1];
	}
	for (size_t i = 0; i < count; i++)
		if (i % 3 != 0)
		{
			free(calls[count + i].out);
			free((void *) (uintptr_t) calls[count + i].in);
		}
	free(at);
	free(calls);
	return differences;
}

static int
by_length(const void *a, const void *b)
{
	const Document *x = *(const Document *const *) a;
	const Document *y = *(const Document *const *) b;

	return x->len > y->len ? -1 : x->len < y->len;
}

/* Time one batch with all shapes; returns differences */
static size_t
time_batch(const BatchShape *shapes, size_t shape_count, size_t count, bool sorted)
{
	const Document **order = need(malloc(count * sizeof(*order)));
	Call *calls = need(malloc(count * sizeof(*calls)));
	const Call **at = need(malloc(count * sizeof(*at)));
	double(*best)[2][2] = need(malloc(shape_count * sizeof(*best)));
	size_t bytes = 0;
	size_t differences = 0;

	for (size_t i = 0, n = 0; n < count; i++)
		if (!is_bounded(docs[i % doc_count].len))
			order[n++] = &docs[i % doc_count];
	if (sorted)
		qsort(order, count, sizeof(*order), by_length);
	for (unsigned decode = 0; decode < 2; decode++)
	{
		bytes = 0;
		for (size_t i = 0; i < count; i++)
		{
			calls[i] = decode ? decode_call(order[i])
							  : encode_call(order[i], order[i]->payload_len + ROOM_OVER);
			at[i] = &calls[i];
			bytes += order[i]->len;
		}
		lay_out(at, count);
		for (size_t n = 0; n < shape_count; n++)
		{
			best[n][decode][0] = best[n][decode][1] = 1e9;
			for (unsigned pass = 0; pass < PASSES; pass++)
			{
				BatchTimes times;

				differences += run_and_compare(&shapes[n], "timed", &times);
				if (times.kernel < best[n][decode][0])
					best[n][decode][0] = times.kernel;
				if (times.with_transfers < best[n][decode][1])
					best[n][decode][1] = times.with_transfers;
			}
		}
	}
	for (size_t n = 0; n < shape_count; n++)
		printf("| %u:%u:%u | %zu | %s | %.1f | %.1f | %.1f | %.1f |\n", shapes[n].lanes,
			   shapes[n].block, shapes[n].resident, count, sorted ? "yes" : "no",
			   (double) bytes / best[n][0][0] / 1e6, (double) bytes / best[n][0][1] / 1e6,
			   (double) bytes / best[n][1][0] / 1e6, (double) bytes / best[n][1][1] / 1e6);
	fflush(stdout);
	free(best);
	free(at);
	free(calls);
	free(order);
	return differences;
}

int
main(int argc, char **argv)
{
	const char *file = NULL;
	const char *model_path = NULL;
	const char *shape_list = "1:64:1,1:64:2,16:128:2,16:128:4,32:128:4,32:128:6,32:128:8";
	const char *batch_list = "256,1024,4096,16384,65536";
	const char *device = batch_device();
	size_t most = 4096;
	size_t longest = 65536;
	BatchShape shapes[SHAPES_MAX];
	size_t shape_count = 0;
	size_t batches[SHAPES_MAX];
	size_t batch_count = 0;
	size_t largest = 0;
	size_t longest_doc = 0;
	size_t doc_bytes = 0;
	size_t differences;
	uint8_t *data;
	size_t len;

	for (int i = 1; i < argc; i++)
	{
		if (strncmp(argv[i], "--", 2) != 0 && file == NULL)
			file = argv[i];
		else if (i + 1 == argc)
			fail("what is that?", argv[i]);
		else if (strcmp(argv[i], "--model") == 0)
			model_path = argv[++i];
		else if (strcmp(argv[i], "--documents") == 0)
			most = strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--longest") == 0)
			longest = strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--shapes") == 0)
			shape_list = argv[++i];
		else if (strcmp(argv[i], "--batches") == 0)
			batch_list = argv[++i];
		else
			fail("what is that?", argv[i]);
	}
	for (const char *p = shape_list; p != NULL && shape_count < SHAPES_MAX;
		 p = strchr(p, ',') != NULL ? strchr(p, ',') + 1 : NULL)
	{
		BatchShape *s = &shapes[shape_count++];

		if (sscanf(p, "%u:%u:%u", &s->lanes, &s->block, &s->resident) != 3 ||
			(s->lanes != 1 && s->lanes != 16 && s->lanes != 32))
			fail("no such shape", p);
	}
	for (const char *p = batch_list; p != NULL && batch_count < SHAPES_MAX;
		 p = strchr(p, ',') != NULL ? strchr(p, ',') + 1 : NULL)
	{
		size_t n = strtoul(p, NULL, 10);

		if (n > 0)
			batches[batch_count++] = n;
		largest = n > largest ? n : largest;
	}
	if (device == NULL)
	{
		printf("no GPU\n");
		return 77;
	}

	printf("# %s, on %s\n", file != NULL ? file : "made-up documents", device);
	data = file != NULL ? read_file(file, &len) : make_up(&len);
	divide(data, len, most, longest);
	get_model(model_path);
	make_payloads();

	for (size_t i = 0; i < doc_count; i++)
	{
		longest_doc = docs[i].len > longest_doc ? docs[i].len : longest_doc;
		doc_bytes += docs[i].len + docs[i].payload_len;
	}
	/* the checks have each document three times, with up to twice the room; batches repeat them */
	content_room = 6 * doc_bytes + doc_count * 600;
	payload_room = content_room;
	if (largest > 0)
		content_room += (largest / doc_count + 1) * (doc_bytes + doc_count * 100);
	payload_room = content_room;
	if (3 * doc_count > largest)
		largest = 3 * doc_count;
	layout.items = batch_alloc(largest * sizeof(*layout.items));
	layout.expected = malloc(largest * sizeof(*layout.expected));
	layout.content = batch_alloc(content_room);
	layout.payload = batch_alloc(payload_room);
	if (layout.items == NULL || layout.expected == NULL || layout.content == NULL ||
		layout.payload == NULL ||
		!batch_open(model.image, model.image_len, largest, content_room, payload_room))
		return 1;

	differences = check(shapes, shape_count);
	if (batch_count > 0)
	{
		printf(
			"\n| lanes:block:resident | documents | sorted | encode MB/s, kernel | with transfers "
			"| decode MB/s, kernel | with transfers |\n|---|--:|---|--:|--:|--:|--:|\n");
		nbmf_neural_limit = NBMF_NEURAL_WIDE;
		time_processor();
		for (size_t b = 0; b < batch_count; b++)
			for (unsigned sorted = 0; sorted < 2; sorted++)
				differences += time_batch(shapes, shape_count, batches[b], sorted);
	}
	batch_close();
	if (differences > 0)
		fprintf(stderr, "%zu differences\n", differences);
	return differences > 0;
}
