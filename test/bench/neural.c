/*
 * neural.c
 *		What the neural codec makes of documents, next to zstd: one line of the
 *		table of test/bench/neural.sh.
 *
 *	neural NAME FILE [DOCUMENTS]
 *
 * FILE holds documents, each behind its length (4 bytes, little-endian).  A hash of
 * a document's number decides whether it may train or is held out: neighbours
 * often take turns (question and answer), so that every second one would be
 * another kind of document.  4 MB of the former, evenly spread, train; DOCUMENTS
 * (1500) of the latter, evenly spread, are measured, each alone, with all headers.
 */
#define _POSIX_C_SOURCE 199309L

#include "codec/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zdict.h>
#include <zstd.h>

#define TRAIN_BYTES    ((size_t) 4 << 20)
#define DICTIONARY_LEN 112640
#define PASSES         3

typedef struct Documents
{
	const uint8_t **bytes;
	size_t *sizes;
	size_t count;
	size_t total;
} Documents;

static double
seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

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
add(Documents *docs, const uint8_t *bytes, size_t size)
{
	docs->bytes = need(realloc(docs->bytes, (docs->count + 1) * sizeof(*docs->bytes)));
	docs->sizes = need(realloc(docs->sizes, (docs->count + 1) * sizeof(*docs->sizes)));
	docs->bytes[docs->count] = bytes;
	docs->sizes[docs->count++] = size;
	docs->total += size;
}

/* What a value with a frame of this length takes in a row */
static double
in_row(size_t frame_len)
{
	return (double) frame_len + (frame_len + 1 <= 127 ? 1 : 4);
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* Sum of what zstd makes, without magic number, content size and checksum */
static double
zstd_sum(const Documents *docs, int level, const ZSTD_CDict *dict)
{
	ZSTD_CCtx *cctx = need(ZSTD_createCCtx());
	double sum = 0;

	ZSTD_CCtx_setParameter(cctx, ZSTD_c_format, ZSTD_f_zstd1_magicless);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
	if (dict != NULL)
		ZSTD_CCtx_refCDict(cctx, dict);
	for (size_t i = 0; i < docs->count; i++)
	{
		size_t cap = ZSTD_compressBound(docs->sizes[i]);
		void *out = need(malloc(cap));
		size_t made = ZSTD_compress2(cctx, out, cap, docs->bytes[i], docs->sizes[i]);

		if (ZSTD_isError(made))
			exit(1);
		sum += in_row(made);
		free(out);
	}
	ZSTD_freeCCtx(cctx);
	return sum;
}

static Documents train;
static Documents held;
static uint8_t *sample_bytes;

static void
read_documents(const char *path, size_t most)
{
	Documents all[2] = {{0}, {0}};
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long len;
	double share;
	double gathered = 0;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (len = ftell(file)) < 0)
	{
		perror(path);
		exit(1);
	}
	rewind(file);
	data = need(malloc((size_t) len + 1));
	if (fread(data, 1, (size_t) len, file) != (size_t) len)
		exit(1);
	fclose(file);
	for (size_t at = 0, number = 0; at + 4 <= (size_t) len; number++)
	{
		size_t size = (size_t) data[at] | (size_t) data[at + 1] << 8 | (size_t) data[at + 2] << 16 |
					  (size_t) data[at + 3] << 24;
		uint32_t hash = (uint32_t) number * UINT32_C(2654435761);

		add(&all[hash >> 20 & 1], data + at + 4, size);
		at += 4 + size;
	}
	share = all[0].total > TRAIN_BYTES ? (double) TRAIN_BYTES / (double) all[0].total : 1;
	sample_bytes = need(malloc(all[0].total + 1));
	for (size_t i = 0; i < all[0].count; i++)
	{
		gathered += share;
		if (gathered < 1)
			continue;
		gathered -= 1;
		if (all[0].sizes[i] == 0 || train.total + all[0].sizes[i] > TRAIN_BYTES)
			continue;
		memcpy(sample_bytes + train.total, all[0].bytes[i], all[0].sizes[i]);
		add(&train, all[0].bytes[i], all[0].sizes[i]);
	}
	for (size_t i = 0; i < all[1].count; i++)
		if (all[1].count <= most || i * most / all[1].count != (i + 1) * most / all[1].count)
			add(&held, all[1].bytes[i], all[1].sizes[i]);
}

int
main(int argc, char **argv)
{
	NbmfModelParams params = {.slots = 0};
	NbmfSample sample;
	NbmfWorkspace ws = {0};
	NbmfModel model = {.id = 100};
	NbmfObjects objects = {.model = &model};
	void *stored;
	size_t stored_len;
	void *image;
	void *dictionary = need(malloc(DICTIONARY_LEN));
	size_t dictionary_len;
	double training;
	double loading;
	double alone;
	double with_dictionary;
	double made = 0;
	double best[2] = {1e9, 1e9};
	double *times[2];
	void *state = need(calloc(1, nbmf_neural_state_size()));

	if (argc < 3)
		return 2;
	read_documents(argv[2], argc > 3 ? (size_t) atol(argv[3]) : 1500);
	sample = (NbmfSample){sample_bytes, train.sizes, train.count};

	training = seconds(CLOCK_PROCESS_CPUTIME_ID);
	if (nbmf_model_train(&sample, &params, &stored, &stored_len) != NBMF_OK)
		return 1;
	training = seconds(CLOCK_PROCESS_CPUTIME_ID) - training;
	if (nbmf_model_memory(stored, stored_len, &model.image_len) != NBMF_OK)
		return 1;
	/* nbmf_model_load wants whole lines of cache */
	image = need(malloc(model.image_len + 63));
	image = (uint8_t *) image + (64 - (uintptr_t) image % 64) % 64;
	loading = seconds(CLOCK_PROCESS_CPUTIME_ID);
	if (nbmf_model_load(stored, stored_len, image, model.image_len) != NBMF_OK)
		return 1;
	loading = seconds(CLOCK_PROCESS_CPUTIME_ID) - loading;
	model.image = image;

	dictionary_len = ZDICT_trainFromBuffer(dictionary, DICTIONARY_LEN, sample_bytes, train.sizes,
										   (unsigned) train.count);
	alone = zstd_sum(&held, 3, NULL);
	with_dictionary = ZDICT_isError(dictionary_len)
						  ? zstd_sum(&held, 22, NULL)
						  : zstd_sum(&held, 22, ZSTD_createCDict(dictionary, dictionary_len, 22));

	for (unsigned k = 0; k < 2; k++)
		times[k] = need(calloc(held.count, sizeof(double)));
	for (size_t i = 0; i < held.count; i++)
	{
		NbmfEncodeParams encode = {.level = 3, .model = &model};
		size_t bound = nbmf_encode_bound(held.sizes[i]);
		uint8_t *frame = need(malloc(bound));
		size_t frame_len;
		NbmfFrame header;
		uint8_t *back;

		if (nbmf_encode(&ws, &encode, held.bytes[i], held.sizes[i], frame, bound, &frame_len) !=
				NBMF_OK ||
			nbmf_frame_parse(frame, frame_len, frame_len, &header) != NBMF_OK)
			return 1;
		back = need(malloc(header.raw_len + 1));
		if (nbmf_decode(&ws, header.object != 0 ? &objects : NULL, frame, frame_len, back,
						header.raw_len, &header) != NBMF_OK ||
			header.raw_len != held.sizes[i] || memcmp(back, held.bytes[i], header.raw_len) != 0)
		{
			fprintf(stderr, "document %zu does not come back\n", i);
			return 1;
		}
		made += in_row(frame_len);
		free(back);
		free(frame);
	}

	/* encode all, then decode all: no document finds the cache warmed by itself */
	for (unsigned pass = 0; pass < PASSES; pass++)
	{
		uint8_t *out = need(malloc(2 * held.total + 100 * held.count));
		uint8_t *back = need(malloc(held.total + NBMF_NEURAL_SHORT_MAX));
		size_t *lens = need(malloc(held.count * sizeof(size_t)));

		for (unsigned k = 0; k < 2; k++)
		{
			double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
			size_t at = 0;

			for (size_t i = 0; i < held.count; i++)
			{
				size_t size = held.sizes[i];
				bool is_short = size <= NBMF_NEURAL_SHORT_MAX;
				NbmfNeuralForm form = is_short ? NBMF_NEURAL_SHORT : NBMF_NEURAL_LONG;
				double before = seconds(CLOCK_MONOTONIC);
				double took;
				size_t len;

				if ((k == 0 ? nbmf_neural_encode(state, image, form, NULL, 0, held.bytes[i], size,
												 out + at, 2 * size + 100, &lens[i])
							: nbmf_neural_decode(state, image, form, NULL, 0, out + at, lens[i],
												 back, is_short ? NBMF_NEURAL_SHORT_MAX : size,
												 &len)) != NBMF_OK)
					return 1;
				took = seconds(CLOCK_MONOTONIC) - before;
				if (pass == 0 || took < times[k][i])
					times[k][i] = took;
				at += lens[i];
			}
			start = seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
			if (start < best[k])
				best[k] = start;
		}
		free(lens);
		free(back);
		free(out);
	}
	for (unsigned k = 0; k < 2; k++)
		qsort(times[k], held.count, sizeof(double), compare);

	printf("| %s | %zu | %.0f | %.2f | %.2f | **%.2f** | %.2f | %.1f / %.1f | %.0f / %.0f | %.0f / "
		   "%.0f | %.2f / %.2f | %.1f | %.0f |\n",
		   argv[1], held.count, (double) held.total / (double) held.count,
		   (double) held.total / alone, (double) held.total / with_dictionary,
		   (double) held.total / made, with_dictionary / made, (double) held.total / best[0] / 1e6,
		   (double) held.total / best[1] / 1e6, times[0][held.count / 2] * 1e6,
		   times[0][held.count * 95 / 100] * 1e6, times[1][held.count / 2] * 1e6,
		   times[1][held.count * 95 / 100] * 1e6, (double) stored_len / 1e6,
		   (double) model.image_len / 1e6, training, loading * 1e3);
	return 0;
}
