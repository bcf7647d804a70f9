/*
 * dictionary.c
 *		What plain zstd makes of documents with a dictionary: the yardstick of
 *		test/bench/run dictionaries.
 *
 *	dictionary TRAIN TEST
 *
 * The files hold documents in hexadecimal, one a line.  A dictionary of at most
 * 110 KB is trained on the first with libzstd's own defaults; printed is the
 * sum over the second of its level 19 frames, without magic number, content
 * size, checksum and dictionary id.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zdict.h>
#include <zstd.h>

#define DICTIONARY_LEN 112640
#define LEVEL          19

typedef struct Documents
{
	uint8_t *bytes;
	size_t len;
	size_t *sizes;
	unsigned count;
} Documents;

static Documents
read_documents(const char *path)
{
	Documents docs = {0};
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	while ((len = getline(&line, &cap, file)) > 0)
	{
		size_t size = (size_t) (len - 1) / 2;

		docs.bytes = realloc(docs.bytes, docs.len + size + 1);
		docs.sizes = realloc(docs.sizes, (docs.count + 1) * sizeof(size_t));
		for (size_t i = 0; i < size; i++)
		{
			unsigned byte;

			if (sscanf(line + 2 * i, "%2x", &byte) != 1)
				exit(1);
			docs.bytes[docs.len + i] = (uint8_t) byte;
		}
		docs.len += size;
		docs.sizes[docs.count++] = size;
	}
	fclose(file);
	free(line);
	return docs;
}

int
main(int argc, char **argv)
{
	Documents train;
	Documents test;
	uint8_t *dict = malloc(DICTIONARY_LEN);
	size_t dict_len;
	ZSTD_CCtx *cctx = ZSTD_createCCtx();
	ZSTD_CDict *cdict;
	uint8_t *at;
	unsigned long long sum = 0;

	if (argc != 3)
		return 2;
	train = read_documents(argv[1]);
	test = read_documents(argv[2]);
	dict_len = ZDICT_trainFromBuffer(dict, DICTIONARY_LEN, train.bytes, train.sizes, train.count);
	if (ZDICT_isError(dict_len))
		dict_len = 0;
	cdict = ZSTD_createCDict(dict, dict_len, LEVEL);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_format, ZSTD_f_zstd1_magicless);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
	ZSTD_CCtx_refCDict(cctx, cdict);
	at = test.bytes;
	for (unsigned i = 0; i < test.count; i++)
	{
		size_t cap = ZSTD_compressBound(test.sizes[i]);
		uint8_t *frame = malloc(cap);
		size_t len = ZSTD_compress2(cctx, frame, cap, at, test.sizes[i]);

		if (ZSTD_isError(len))
			return 1;
		sum += len;
		at += test.sizes[i];
		free(frame);
	}
	printf("%llu\n", sum);
	return 0;
}
