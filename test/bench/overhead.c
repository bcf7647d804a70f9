/*
 * overhead.c
 *		What a value costs on disk beyond its compressed payload.
 *
 * For content of several sizes, compressible and not, prints Markdown rows: the
 * bytes of the value (varlena header, frame header, payload), the bytes of the
 * plain zstd frame of the same content at the same level (magicless, without
 * content size, checksum and dictionary id), and the difference; for
 * incompressible content, the excess over the content.
 *
 * With an argument, the documents are the lines of standard input that are
 * shorter than 64 KB, and there is one row for all of them, which the argument
 * names: how many, the mean and the largest overhead, and how many are over 10.
 *
 * Needs no server: it links src/codec and libzstd, as test/bench/run does.
 */
#define _POSIX_C_SOURCE 200809L /* for getline */
#define ZSTD_STATIC_LINKING_ONLY
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "codec/codec.h"

#define LEVEL 3

/* A varlena in a tuple has a 1-byte header up to this size, else 4 bytes */
#define VARLENA_SHORT_MAX 127

static uint64_t random_state;

static uint32_t
next_random(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (random_state >> 33);
}

/* Something like a log or a chat: words of a small vocabulary, numbers */
static void
fill_compressible(char *p, size_t len)
{
	static const char *const word[] = {
		"agent ", "memory ",   "the ",     "request ",  "of ",        "customer ",
		"to ",    "order ",    "was ",     "answered ", "in ",        "tool ",
		"call ",  "returned ", "and ",     "status ",   "\"role\": ", "\"content\": ",
		"error ", "retry ",    "session ", "a ",        "plan "};
	size_t at = 0;

	while (at < len)
	{
		char number[16];
		const char *s = word[next_random() % (sizeof(word) / sizeof(word[0]))];
		size_t n;

		if (next_random() % 8 == 0)
		{
			snprintf(number, sizeof(number), "%u ", (unsigned) (next_random() % 100000));
			s = number;
		}
		n = strlen(s);
		if (n > len - at)
			n = len - at;
		memcpy(p + at, s, n);
		at += n;
	}
}

static void
fill_random(char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (char) next_random();
}

static void
fail(const char *what)
{
	fprintf(stderr, "overhead: %s\n", what);
	exit(1);
}

/* Bytes of the value in a tuple */
static size_t
value_size(NbmfWorkspace *ws, const char *content, size_t len)
{
	NbmfEncodeParams params = {.kind = NBMF_KIND_TEXT, .tier = NBMF_TIER_L1, .level = LEVEL};
	size_t cap = nbmf_encode_bound(len);
	char *frame = malloc(cap);
	char *back = malloc(len + 1);
	NbmfFrame header;
	size_t frame_len;

	if (frame == NULL || back == NULL)
		fail("out of memory");
	if (nbmf_encode(ws, &params, content, len, frame, cap, &frame_len) != NBMF_OK)
		fail("encoding failed");
	if (nbmf_decode(ws, NULL, frame, frame_len, back, len, &header) != NBMF_OK ||
		header.raw_len != len || memcmp(back, content, len) != 0)
		fail("decoding gave other content");
	free(frame);
	free(back);
	return frame_len + (frame_len + 1 <= VARLENA_SHORT_MAX ? 1 : 4);
}

static size_t
plain_size(ZSTD_CCtx *cctx, const char *content, size_t len)
{
	size_t cap = ZSTD_compressBound(len);
	char *dst = malloc(cap);
	size_t n;

	if (dst == NULL)
		fail("out of memory");
	n = ZSTD_compress2(cctx, dst, cap, content, len);
	if (ZSTD_isError(n))
		fail("zstd failed");
	free(dst);
	return n;
}

static void
report_lines(NbmfWorkspace *ws, ZSTD_CCtx *cctx, const char *name)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t got;
	long docs = 0;
	long over = 0;
	long total = 0;
	long most = 0;

	while ((got = getline(&line, &cap, stdin)) > 0)
	{
		size_t len = (size_t) got - (line[got - 1] == '\n');
		long overhead;

		if (len == 0 || len >= 64 * 1024)
			continue;
		overhead = (long) value_size(ws, line, len) - (long) plain_size(cctx, line, len);
		docs++;
		total += overhead;
		over += overhead > 10;
		if (overhead > most)
			most = overhead;
	}
	free(line);
	if (docs > 0)
		printf("| %s | %ld | %.1f | %ld | %ld |\n", name, docs, (double) total / (double) docs,
			   most, over);
}

static void
report_sizes(NbmfWorkspace *ws, ZSTD_CCtx *cctx)
{
	static const size_t size[] = {20, 150, 1024, 16 * 1024, 64 * 1024 - 1, 1024 * 1024};

	printf("| content bytes | nbmf value bytes | plain zstd bytes | overhead"
		   " | random content: value bytes | excess |\n");
	printf("|--:|--:|--:|--:|--:|--:|\n");
	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++)
	{
		size_t len = size[i];
		char *content = malloc(len);
		size_t value;
		size_t plain;
		size_t stored;

		if (content == NULL)
			fail("out of memory");
		random_state = 1 + i;
		fill_compressible(content, len);
		value = value_size(ws, content, len);
		plain = plain_size(cctx, content, len);
		fill_random(content, len);
		stored = value_size(ws, content, len);
		printf("| %zu | %zu | %zu | %+ld | %zu | %+ld |\n", len, value, plain,
			   (long) value - (long) plain, stored, (long) stored - (long) len);
		free(content);
	}
}

int
main(int argc, char **argv)
{
	NbmfWorkspace ws = {0};
	ZSTD_CCtx *cctx = ZSTD_createCCtx();

	if (cctx == NULL)
		fail("out of memory");
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_format, ZSTD_f_zstd1_magicless);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 0);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
	if (argc > 1)
		report_lines(&ws, cctx, argv[1]);
	else
		report_sizes(&ws, cctx);
	ZSTD_freeCCtx(cctx);
	nbmf_workspace_free(&ws);
	return 0;
}
