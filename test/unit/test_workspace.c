/*
 * test_workspace.c
 *		Buffers that are too small, interrupts, lack of memory, and the reuse of
 *		a workspace after all of these.
 *
 * The program is linked with --wrap for the functions that allocate, so that
 * they can be made to fail: see test/core.mk.
 */
/* for MAP_ANONYMOUS and MAP_NORESERVE */
#define _DEFAULT_SOURCE

#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zstd.h>

/* How many calls of an allocating function succeed until one fails; -1: all */
static int allocations_left = -1;

static int interrupt_calls;
static int interrupt_at; /* which call says stop; 0: none */

extern void *__real_malloc(size_t size);
extern void *__wrap_malloc(size_t size);
extern ZSTD_CCtx *__real_ZSTD_createCCtx(void);
extern ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
extern ZSTD_DCtx *__real_ZSTD_createDCtx(void);
extern ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
extern size_t __real_ZSTD_CCtx_setParameter(ZSTD_CCtx *cctx, ZSTD_cParameter param, int value);
extern size_t __wrap_ZSTD_CCtx_setParameter(ZSTD_CCtx *cctx, ZSTD_cParameter param, int value);
extern size_t __real_ZSTD_DCtx_setParameter(ZSTD_DCtx *dctx, ZSTD_dParameter param, int value);
extern size_t __wrap_ZSTD_DCtx_setParameter(ZSTD_DCtx *dctx, ZSTD_dParameter param, int value);
extern size_t __real_ZSTD_compress2(ZSTD_CCtx *cctx, void *dst, size_t cap, const void *src,
									size_t len);
extern size_t __wrap_ZSTD_compress2(ZSTD_CCtx *cctx, void *dst, size_t cap, const void *src,
									size_t len);
extern size_t __real_ZSTD_CCtx_setPledgedSrcSize(ZSTD_CCtx *cctx, unsigned long long len);
extern size_t __wrap_ZSTD_CCtx_setPledgedSrcSize(ZSTD_CCtx *cctx, unsigned long long len);
extern size_t __real_ZSTD_compressStream2(ZSTD_CCtx *cctx, ZSTD_outBuffer *out, ZSTD_inBuffer *in,
										  ZSTD_EndDirective directive);
extern size_t __wrap_ZSTD_compressStream2(ZSTD_CCtx *cctx, ZSTD_outBuffer *out, ZSTD_inBuffer *in,
										  ZSTD_EndDirective directive);
extern size_t __real_ZSTD_decompressDCtx(ZSTD_DCtx *dctx, void *dst, size_t cap, const void *src,
										 size_t len);
extern size_t __wrap_ZSTD_decompressDCtx(ZSTD_DCtx *dctx, void *dst, size_t cap, const void *src,
										 size_t len);

/* What libzstd's functions return for "allocation error" */
#define ZSTD_NO_MEMORY ((size_t) -64)

static bool
allocation_fails(void)
{
	if (allocations_left < 0)
		return false;
	if (allocations_left == 0)
		return true;
	allocations_left--;
	return false;
}

void *
__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

ZSTD_CCtx *
__wrap_ZSTD_createCCtx(void)
{
	return allocation_fails() ? NULL : __real_ZSTD_createCCtx();
}

ZSTD_DCtx *
__wrap_ZSTD_createDCtx(void)
{
	return allocation_fails() ? NULL : __real_ZSTD_createDCtx();
}

size_t
__wrap_ZSTD_CCtx_setParameter(ZSTD_CCtx *cctx, ZSTD_cParameter param, int value)
{
	return allocation_fails() ? ZSTD_NO_MEMORY : __real_ZSTD_CCtx_setParameter(cctx, param, value);
}

size_t
__wrap_ZSTD_DCtx_setParameter(ZSTD_DCtx *dctx, ZSTD_dParameter param, int value)
{
	return allocation_fails() ? ZSTD_NO_MEMORY : __real_ZSTD_DCtx_setParameter(dctx, param, value);
}

size_t
__wrap_ZSTD_compress2(ZSTD_CCtx *cctx, void *dst, size_t cap, const void *src, size_t len)
{
	return allocation_fails() ? ZSTD_NO_MEMORY : __real_ZSTD_compress2(cctx, dst, cap, src, len);
}

size_t
__wrap_ZSTD_CCtx_setPledgedSrcSize(ZSTD_CCtx *cctx, unsigned long long len)
{
	return allocation_fails() ? ZSTD_NO_MEMORY : __real_ZSTD_CCtx_setPledgedSrcSize(cctx, len);
}

size_t
__wrap_ZSTD_compressStream2(ZSTD_CCtx *cctx, ZSTD_outBuffer *out, ZSTD_inBuffer *in,
							ZSTD_EndDirective directive)
{
	return allocation_fails() ? ZSTD_NO_MEMORY
							  : __real_ZSTD_compressStream2(cctx, out, in, directive);
}

size_t
__wrap_ZSTD_decompressDCtx(ZSTD_DCtx *dctx, void *dst, size_t cap, const void *src, size_t len)
{
	return allocation_fails() ? ZSTD_NO_MEMORY
							  : __real_ZSTD_decompressDCtx(dctx, dst, cap, src, len);
}

static bool
interrupt(void)
{
	return ++interrupt_calls == interrupt_at;
}

/* Does the workspace still do what it is for? */
static bool
works(NbmfWorkspace *ws, size_t len)
{
	NbmfEncodeParams params = {.level = 3};
	uint8_t *content = pattern_alloc(PATTERN_JSON, len);
	uint8_t *decoded = exact_alloc(len);
	uint8_t *frame = exact_alloc(nbmf_encode_bound(len));
	size_t frame_len;
	NbmfFrame header;
	bool good;

	good = nbmf_encode(ws, &params, content, len, frame, nbmf_encode_bound(len), &frame_len) ==
			   NBMF_OK &&
		   nbmf_decode(ws, NULL, frame, frame_len, decoded, len, &header) == NBMF_OK &&
		   header.codec != NBMF_CODEC_STORED && memcmp(decoded, content, len) == 0;
	free(content);
	free(decoded);
	free(frame);
	return good;
}

static void
encode_space(void)
{
	NbmfWorkspace ws = {0};

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		for (size_t len = 0; len <= 300; len += len < 20 ? 1 : 47)
		{
			NbmfEncodeParams params = {.level = 3};
			uint8_t *content = pattern_alloc((Pattern) pattern, len);
			size_t bound = nbmf_encode_bound(len);

			for (size_t cap = 0; cap < bound; cap++)
			{
				uint8_t *frame = exact_alloc(cap);
				size_t frame_len = 0;

				CHECK(nbmf_encode(&ws, &params, content, len, frame, cap, &frame_len) ==
						  NBMF_ERR_SPACE,
					  "%zu bytes in %zu", len, cap);
				free(frame);
			}
			free(content);
		}
	}
	CHECK(works(&ws, 1000), "afterwards");
	nbmf_workspace_free(&ws);
}

/* Decoding into a buffer that is too small writes nothing at all */
static void
decode_space(void)
{
	NbmfWorkspace ws = {0};

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		NbmfEncodeParams params = {.level = 3};
		const size_t len = 700;
		uint8_t *content = pattern_alloc((Pattern) pattern, len);
		uint8_t *frame = exact_alloc(nbmf_encode_bound(len));
		uint8_t *decoded = exact_alloc(len);
		size_t frame_len;
		NbmfFrame header;

		CHECK(nbmf_encode(&ws, &params, content, len, frame, nbmf_encode_bound(len), &frame_len) ==
				  NBMF_OK,
			  "%s", pattern_name((Pattern) pattern));
		for (size_t cap = 0; cap < len; cap += cap == 0 ? len - 30 : 1)
		{
			uint8_t *small = exact_alloc(cap);

			memset(small, 0xa5, cap);
			CHECK(nbmf_decode(&ws, NULL, frame, frame_len, small, cap, &header) == NBMF_ERR_SPACE,
				  "%zu bytes in %zu", len, cap);
			for (size_t i = 0; i < cap; i++)
				if (!CHECK(small[i] == 0xa5, "room of %zu: byte %zu was written", cap, i))
					break;
			free(small);
		}
		CHECK(nbmf_decode(&ws, NULL, frame, frame_len, decoded, len, &header) == NBMF_OK &&
				  memcmp(decoded, content, len) == 0,
			  "afterwards");
		free(content);
		free(frame);
		free(decoded);
	}
	nbmf_workspace_free(&ws);
}

/*
 * Content over the limit is refused.  It is a mapping of zeros that are never
 * written, so that it costs address space only.
 */
static void
content_too_large(void)
{
	NbmfWorkspace ws = {0};
	NbmfEncodeParams params = {.level = 1};
	size_t len = NBMF_CONTENT_MAX + 1;
	uint8_t frame[100];
	size_t frame_len;
	void *zeros = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (!CHECK(zeros != MAP_FAILED, "no address space"))
		return;
	CHECK(nbmf_encode(&ws, &params, zeros, len, frame, SIZE_MAX, &frame_len) == NBMF_ERR_TOO_LARGE,
		  "over the limit");
	CHECK(nbmf_encode(&ws, &params, zeros, len - 1, frame, sizeof(frame), &frame_len) ==
			  NBMF_ERR_SPACE,
		  "at the limit, no room");
	munmap(zeros, len);
	nbmf_workspace_free(&ws);
}

static void
interrupts(void)
{
	NbmfWorkspace ws = {0};
	NbmfEncodeParams params = {.level = 1, .interrupted = interrupt};
	size_t len = 3 * NBMF_CHUNK + 5;
	uint8_t *content = pattern_alloc(PATTERN_MIXED, len);
	size_t bound = nbmf_encode_bound(len);
	uint8_t *frame = exact_alloc(bound);
	size_t frame_len;
	int calls;

	/* never asked for short content */
	interrupt_calls = 0;
	interrupt_at = 1;
	CHECK(nbmf_encode(&ws, &params, content, NBMF_CHUNK, frame, bound, &frame_len) == NBMF_OK &&
			  interrupt_calls == 0,
		  "%d calls for a chunk", interrupt_calls);
	CHECK(nbmf_encode(&ws, &params, content, NBMF_CHUNK + 1, frame, bound, &frame_len) ==
				  NBMF_ERR_INTERRUPTED &&
			  interrupt_calls == 1,
		  "%d calls for a byte more", interrupt_calls);

	/* asked at least once for each chunk, and every answer is obeyed */
	interrupt_calls = 0;
	interrupt_at = 0;
	CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK, "no stop");
	calls = interrupt_calls;
	CHECK(calls >= 4, "%d calls for four chunks", calls);
	for (int at = 1; at <= calls; at++)
	{
		interrupt_calls = 0;
		interrupt_at = at;
		CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) ==
				  NBMF_ERR_INTERRUPTED,
			  "stop at call %d", at);
		CHECK(interrupt_calls == at, "%d calls, stop at call %d", interrupt_calls, at);
		/* short and long content after it; neither must see what was left */
		CHECK(works(&ws, at % 2 == 0 ? 1000 : NBMF_CHUNK + 1000), "after a stop at call %d", at);
	}

	/* content that does not compress ends early, and is stored */
	pattern_fill(PATTERN_NOISE, content, len);
	interrupt_calls = 0;
	interrupt_at = 0;
	CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK &&
			  frame_len == len + 5,
		  "%zu bytes of noise become %zu", len, frame_len);
	CHECK(works(&ws, 1000), "after noise");
	free(content);
	free(frame);
	nbmf_workspace_free(&ws);
}

/*
 * Content that does not compress makes libzstd stop in the middle.  Nothing of
 * that may be left for the content that comes next, which may be compressed in
 * one go or in steps, and at another level.
 */
static void
after_incompressible(void)
{
	static const size_t lengths[] = {17, 300, 5000, 200000, NBMF_CHUNK, NBMF_CHUNK + 1};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
	{
		for (size_t next = 0; next < 3; next++)
		{
			static const size_t next_lengths[] = {1000, 150000, NBMF_CHUNK + 1000};
			NbmfWorkspace ws = {0};
			NbmfEncodeParams params = {.level = i % 2 == 0 ? 3 : 1};
			size_t len = lengths[i];
			uint8_t *content = pattern_alloc(PATTERN_NOISE, len);
			size_t bound = nbmf_encode_bound(len);
			uint8_t *frame = exact_alloc(bound);
			size_t frame_len = 0;

			CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK &&
					  frame_len == len + 5,
				  "%zu bytes of noise become %zu", len, frame_len);
			CHECK(works(&ws, next_lengths[next]), "%zu bytes after %zu bytes of noise",
				  next_lengths[next], len);
			free(content);
			free(frame);
			nbmf_workspace_free(&ws);
		}
	}
}

static void
no_memory(void)
{
	const size_t lengths[] = {1000, NBMF_CHUNK + 1};

	for (size_t i = 0; i < 2; i++)
	{
		NbmfWorkspace ws = {0};
		NbmfEncodeParams params = {.level = 3};
		size_t len = lengths[i];
		uint8_t *content = pattern_alloc(PATTERN_JSON, len);
		uint8_t *decoded = exact_alloc(len);
		uint8_t *frame = exact_alloc(nbmf_encode_bound(len));
		size_t frame_len = 0;
		NbmfFrame header;
		NbmfStatus status = NBMF_ERR_MEMORY;
		int failing;

		for (failing = 0; failing < 50 && status == NBMF_ERR_MEMORY; failing++)
		{
			nbmf_workspace_free(&ws);
			allocations_left = failing;
			status =
				nbmf_encode(&ws, &params, content, len, frame, nbmf_encode_bound(len), &frame_len);
			allocations_left = -1;
			CHECK(status == NBMF_ERR_MEMORY || status == NBMF_OK,
				  "encode, call %d fails: status %d", failing, (int) status);
			if (status != NBMF_OK && failing % 2 == 0)
				CHECK(works(&ws, len), "after call %d of encode failed", failing);
		}
		CHECK(failing > 6 && status == NBMF_OK, "%d calls of encode could fail", failing);

		status = NBMF_ERR_MEMORY;
		for (failing = 0; failing < 50 && status == NBMF_ERR_MEMORY; failing++)
		{
			nbmf_workspace_free(&ws);
			allocations_left = failing;
			status = nbmf_decode(&ws, NULL, frame, frame_len, decoded, len, &header);
			allocations_left = -1;
			CHECK(status == NBMF_ERR_MEMORY || status == NBMF_OK,
				  "decode, call %d fails: status %d", failing, (int) status);
			if (status != NBMF_OK && failing % 2 == 0)
				CHECK(works(&ws, len), "after call %d of decode failed", failing);
		}
		/* a block is put back together in memory of its own */
		CHECK(failing == (i == 0 ? 5 : 4) && status == NBMF_OK, "%d calls of decode could fail",
			  failing);
		CHECK(memcmp(decoded, content, len) == 0, "content");
		free(content);
		free(decoded);
		free(frame);
		nbmf_workspace_free(&ws);
	}
}

static void
trim_and_free(void)
{
	NbmfWorkspace ws = {0};
	struct ZSTD_CCtx_s *before;

	/* nothing there yet */
	nbmf_workspace_trim(&ws, 0);
	nbmf_workspace_free(&ws);
	CHECK(ws.cctx == NULL && ws.dctx == NULL && ws.block == NULL, "empty workspace");

	CHECK(works(&ws, 1000), "first use");
	CHECK(ws.cctx != NULL && ws.dctx != NULL && ws.block != NULL, "contexts are kept");
	before = ws.cctx;
	nbmf_workspace_trim(&ws, SIZE_MAX);
	CHECK(ws.cctx == before, "trimmed without need");
	CHECK(works(&ws, 1000) && ws.cctx == before, "the context is reused");
	nbmf_workspace_trim(&ws, 0);
	CHECK(ws.cctx == NULL, "not trimmed");
	nbmf_workspace_trim(&ws, 0);
	CHECK(works(&ws, 1000), "after trim");
	CHECK(works(&ws, 2 * NBMF_CHUNK), "after trim, long content");
	nbmf_workspace_trim(&ws, (size_t) 100000);
	CHECK(ws.cctx == NULL, "a large context is not trimmed");
	nbmf_workspace_free(&ws);
	CHECK(ws.cctx == NULL && ws.dctx == NULL && ws.block == NULL && ws.level == 0, "not all zeros");
	nbmf_workspace_free(&ws);
	CHECK(works(&ws, 1000), "after free");
	nbmf_workspace_free(&ws);
}

/* A reused workspace encodes as a fresh one: no level or state is left over */
static void
reuse_is_invisible(void)
{
	static const struct
	{
		int level;
		Pattern pattern;
		size_t len;
	} steps[] = {
		{19, PATTERN_JSON, 3000},  {1, PATTERN_WORDS, 500},     {22, PATTERN_LOG, 20000},
		{3, PATTERN_JSON, 3000},   {1, PATTERN_MIXED, 1500000}, {19, PATTERN_JSON, 3000},
		{19, PATTERN_NOISE, 5000}, {19, PATTERN_JSON, 3000},    {1, PATTERN_JSON, 3000},
	};
	NbmfWorkspace ws = {0};

	for (size_t i = 0; i < 2 * sizeof(steps) / sizeof(steps[0]); i++)
	{
		size_t step = i % (sizeof(steps) / sizeof(steps[0]));
		NbmfWorkspace fresh = {0};
		NbmfEncodeParams params = {.level = steps[step].level};
		size_t len = steps[step].len;
		uint8_t *content = pattern_alloc(steps[step].pattern, len);
		size_t bound = nbmf_encode_bound(len);
		uint8_t *a = exact_alloc(bound);
		uint8_t *b = exact_alloc(bound);
		size_t a_len = 0;
		size_t b_len = 0;

		CHECK(nbmf_encode(&ws, &params, content, len, a, bound, &a_len) == NBMF_OK, "step %zu", i);
		CHECK(nbmf_encode(&fresh, &params, content, len, b, bound, &b_len) == NBMF_OK, "step %zu",
			  i);
		CHECK(a_len == b_len && memcmp(a, b, a_len) == 0,
			  "step %zu: %zu bytes from the reused workspace, %zu from a fresh one", i, a_len,
			  b_len);
		free(content);
		free(a);
		free(b);
		nbmf_workspace_free(&fresh);
		if (i % 4 == 3)
			nbmf_workspace_trim(&ws, 0);
	}
	nbmf_workspace_free(&ws);
}

void
test_workspace(bool quick)
{
	tap_run("encode: buffer too small", encode_space);
	tap_run("decode: buffer too small", decode_space);
	if (!quick)
		tap_run("encode: content too large", content_too_large);
	tap_run("encode: interrupts", interrupts);
	tap_run("workspace: after incompressible content", after_incompressible);
	tap_run("workspace: no memory", no_memory);
	tap_run("workspace: trim and free", trim_and_free);
	tap_run("workspace: reuse is invisible", reuse_is_invisible);
}
