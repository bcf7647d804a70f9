/*
 * test_round_trip.c
 *		Content of all kinds and sizes through nbmf_encode and nbmf_decode.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define KB ((size_t) 1024)
#define MB ((size_t) 1024 * 1024)

/* A stored frame's header: no frame may be longer than its content and this */
#define STORED_HEADER 5

/* Bytes around a buffer that nobody may write, and what they hold */
#define GUARD      64
#define GUARD_BYTE 0xa5

static bool quick_run;
static NbmfWorkspace ws;

static bool
guard_intact(const uint8_t *p)
{
	for (size_t i = 0; i < GUARD; i++)
		if (p[i] != GUARD_BYTE)
			return false;
	return true;
}

/*
 * Encode and decode, in memory of exactly the sizes that are promised to
 * suffice and with guard bytes behind it (libzstd is not instrumented by
 * sanitizers, so they alone would not see it write there).
 */
static bool
round_trip(const NbmfEncodeParams *params, const uint8_t *content, size_t len)
{
	size_t bound = nbmf_encode_bound(len);
	uint8_t *frame = exact_alloc(bound + GUARD);
	uint8_t *decoded = exact_alloc(len + GUARD);
	uint8_t *exact;
	size_t frame_len = 0;
	NbmfFrame header;
	NbmfFrame slice;
	NbmfStatus status;
	bool good;

	memset(frame + bound, GUARD_BYTE, GUARD);
	memset(decoded + len, GUARD_BYTE, GUARD);

	status = nbmf_encode(&ws, params, content, len, frame, bound, &frame_len);
	good = CHECK(status == NBMF_OK, "encoding %zu bytes at level %d: status %d", len, params->level,
				 (int) status) &&
		   CHECK(guard_intact(frame + bound), "encoding %zu bytes writes behind %zu", len, bound) &&
		   CHECK(frame_len <= len + STORED_HEADER, "%zu bytes become %zu", len, frame_len);
	if (!good)
	{
		free(frame);
		free(decoded);
		return false;
	}

	exact = exact_copy(frame, frame_len);
	status = nbmf_decode(&ws, NULL, exact, frame_len, decoded, len, &header);
	good = CHECK(status == NBMF_OK, "decoding %zu bytes of %zu at level %d, codec %d: status %d",
				 frame_len, len, params->level, (int) header.codec, (int) status) &&
		   CHECK(guard_intact(decoded + len), "decoding %zu bytes writes behind them", len) &&
		   CHECK(len == 0 || memcmp(decoded, content, len) == 0,
				 "%zu bytes at level %d, codec %d, come back changed", len, params->level,
				 (int) header.codec) &&
		   CHECK(header.kind == params->kind && header.tier == params->tier &&
					 header.raw_len == len && header.checksum == nbmf_checksum(content, len) &&
					 header.header_len + header.payload_len == frame_len &&
					 header.header_len == nbmf_frame_header_len(header.codec, header.object, len),
				 "header of %zu bytes, codec %d", len, (int) header.codec) &&
		   CHECK((header.codec == NBMF_CODEC_STORED) == (frame_len == len + STORED_HEADER),
				 "%zu bytes become %zu with codec %d", len, frame_len, (int) header.codec);

	/* a slice says the same */
	status = nbmf_frame_parse(exact,
							  frame_len < NBMF_FRAME_HEADER_MAX ? frame_len : NBMF_FRAME_HEADER_MAX,
							  frame_len, &slice);
	good = CHECK(status == NBMF_OK && slice.kind == header.kind && slice.tier == header.tier &&
					 slice.codec == header.codec && slice.checksum == header.checksum &&
					 slice.raw_len == header.raw_len && slice.header_len == header.header_len &&
					 slice.payload_len == header.payload_len,
				 "slice of %zu", frame_len) &&
		   good;
	free(exact);
	free(frame);
	free(decoded);
	return good;
}

/* All kinds and tiers in turn; vectors only where the length allows */
static NbmfEncodeParams
params_for(size_t turn, size_t len, int level)
{
	NbmfEncodeParams params = {
		.kind = (NbmfKind) (turn % 4), .tier = (NbmfTier) (turn / 4 % 3), .level = level};

	if (params.kind == NBMF_KIND_VECTOR && (len == 0 || len % 4 != 0))
		params.kind = NBMF_KIND_BYTEA;
	return params;
}

static void
short_lengths(void)
{
	static const int levels[] = {1, 3, 9, 19};
	size_t turn = 0;

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		uint8_t *content = pattern_alloc((Pattern) pattern, 2000);

		for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		{
			for (size_t len = 0; len <= 2000; len += quick_run && len > 40 ? 97 : 1)
			{
				uint8_t *exact = exact_copy(content, len);
				NbmfEncodeParams params = params_for(turn++, len, levels[i]);

				round_trip(&params, exact, len);
				free(exact);
			}
		}
		free(content);
	}
}

static void
all_levels_and_kinds(void)
{
	static const size_t lengths[] = {0,   1,   4,   15,  16,   17,   127,
									 128, 255, 256, 600, 1000, 4096, 16512};
	size_t count = sizeof(lengths) / sizeof(lengths[0]);

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		for (size_t i = quick_run ? (size_t) pattern % 5 : 0; i < count; i += quick_run ? 5 : 1)
		{
			uint8_t *content = pattern_alloc((Pattern) pattern, lengths[i]);

			for (int level = NBMF_LEVEL_MIN; level <= NBMF_LEVEL_MAX; level++)
			{
				for (size_t turn = 0; turn < 12; turn += quick_run ? 5 : 1)
				{
					NbmfEncodeParams params = params_for(turn, lengths[i], level);

					round_trip(&params, content, lengths[i]);
				}
			}
			free(content);
		}
	}
}

static void
around(size_t middle, const int *levels, size_t level_count)
{
	size_t lengths[] = {middle - 1, middle, middle + 1, middle + 4};
	uint8_t *content = exact_alloc(middle + 4);

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		pattern_fill((Pattern) pattern, content, middle + 4);
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		{
			size_t turn = (size_t) pattern + i;
			NbmfEncodeParams params = params_for(turn, lengths[i], levels[turn % level_count]);

			round_trip(&params, content, lengths[i]);
		}
	}
	free(content);
}

static void
long_lengths(void)
{
	static const int all[] = {1, 3, 6, 12, 15, 19, 22};
	static const int fast[] = {1, 3, 3, 7};
	static const size_t middles[] = {
		/* limits of the content size field of a frame, of blocks and of the length code */
		65536, 65536 + 256, 16512, 128 * KB, 256 * KB, 384 * KB};

	for (size_t i = 0; i < sizeof(middles) / sizeof(middles[0]); i++)
		around(middles[i], all, quick_run ? 2 : sizeof(all) / sizeof(all[0]));
	if (quick_run)
		return;
	/* from here on in steps, with interrupt tests between */
	around(MB, fast, sizeof(fast) / sizeof(fast[0]));
	around(2113664, fast, sizeof(fast) / sizeof(fast[0]));
	around(4 * MB, fast, sizeof(fast) / sizeof(fast[0]));
}

static void
long_high_levels(void)
{
	static const Pattern patterns[] = {PATTERN_JSON, PATTERN_SAME, PATTERN_MIXED};
	uint8_t *content = exact_alloc(MB + 1);

	for (size_t i = 0; i < 3; i++)
	{
		size_t len = i == 1 ? MB : MB + 1;
		NbmfEncodeParams params = params_for(i, len, i == 0 ? 19 : 22);

		if (quick_run)
			len = 200 * KB;
		pattern_fill(patterns[i], content, len);
		round_trip(&params, content, len);
	}
	free(content);
}

/* The three codecs are chosen for what they are for */
static void
codec_choice(void)
{
	static const struct
	{
		Pattern pattern;
		size_t len;
		NbmfCodec codec;
	} cases[] = {
		{PATTERN_SAME, 0, NBMF_CODEC_STORED},
		{PATTERN_SAME, 10, NBMF_CODEC_STORED},
		{PATTERN_NOISE, 100, NBMF_CODEC_STORED},
		{PATTERN_NOISE, 100000, NBMF_CODEC_STORED},
		{PATTERN_WORDS, 600, NBMF_CODEC_ZSTD_BLOCK},
		{PATTERN_JSON, 1000, NBMF_CODEC_ZSTD_BLOCK},
		{PATTERN_JSON, 16 * KB, NBMF_CODEC_ZSTD_BLOCK},
		{PATTERN_JSON, 128 * KB, NBMF_CODEC_ZSTD_BLOCK},
		/* one block of 128 KB is the most there is */
		{PATTERN_JSON, 128 * KB + 1, NBMF_CODEC_ZSTD},
		{PATTERN_JSON, MB, NBMF_CODEC_ZSTD},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NbmfEncodeParams params = {.level = 3};
		uint8_t *content = pattern_alloc(cases[i].pattern, cases[i].len);
		size_t bound = nbmf_encode_bound(cases[i].len);
		uint8_t *frame = exact_alloc(bound);
		size_t frame_len;
		NbmfFrame header;

		CHECK(nbmf_encode(&ws, &params, content, cases[i].len, frame, bound, &frame_len) ==
					  NBMF_OK &&
				  nbmf_frame_parse(frame, frame_len, frame_len, &header) == NBMF_OK &&
				  header.codec == cases[i].codec,
			  "%zu bytes of %s: codec %d", cases[i].len, pattern_name(cases[i].pattern),
			  (int) header.codec);
		free(frame);
		free(content);
	}
}

/*
 * Bytes that a frame costs on top of its payload, and that the payload has on
 * top of what zstd needs: the promise of docs/format.md, as a table.
 */
static void
overhead(void)
{
	static const struct
	{
		size_t len;
		Pattern pattern;
		size_t header_len;
	} cases[] = {
		{20, PATTERN_NOISE, 5},      {20, PATTERN_SAME, 6},      {150, PATTERN_NOISE, 5},
		{150, PATTERN_WORDS, 7},     {KB, PATTERN_NOISE, 5},     {KB, PATTERN_JSON, 7},
		{16 * KB, PATTERN_NOISE, 5}, {16 * KB, PATTERN_JSON, 7}, {MB, PATTERN_NOISE, 5},
		{MB, PATTERN_JSON, 8},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NbmfEncodeParams params = {.level = 3};
		size_t len = cases[i].len;
		uint8_t *content = pattern_alloc(cases[i].pattern, len);
		size_t bound = nbmf_encode_bound(len);
		uint8_t *frame = exact_alloc(bound);
		size_t frame_len;
		NbmfFrame header;

		CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK &&
				  nbmf_frame_parse(frame, frame_len, frame_len, &header) == NBMF_OK &&
				  header.header_len == cases[i].header_len,
			  "%zu bytes of %s: header of %zu, codec %d", len, pattern_name(cases[i].pattern),
			  header.header_len, (int) header.codec);
		/* the room that the encoder asks for is not wasteful either */
		CHECK(bound <= len + 15 + (len <= 131072 ? len / 256 + 64 : 0), "room of %zu for %zu",
			  bound, len);
		free(frame);
		free(content);
	}
}

/* The examples of docs/format.md, byte for byte */
static void
documented_examples(void)
{
	static const struct
	{
		NbmfKind kind;
		const char *content;
		size_t len;
		const char *frame;
		size_t frame_len;
	} cases[] = {
		{NBMF_KIND_TEXT, "", 0, "\x00\x99\xe9\xd8\x51", 5},
		{NBMF_KIND_TEXT, "abc", 3,
		 "\x00\x99\x09\x77\xad"
		 "abc",
		 8},
		{NBMF_KIND_JSON, "{\"a\": 1}", 8, "\x10\x2e\x0b\xd5\x17{\"a\": 1}", 13},
		{NBMF_KIND_BYTEA, "\x01\x02", 2, "\x20\xa8\xb1\xf5\x75\x01\x02", 7},
		{NBMF_KIND_VECTOR, "\0\0\x80\x3f\0\0\0\x40", 8,
		 "\x30\x89\xaa\xe6\x0a\0\0\x80\x3f\0\0\0\x40", 13},
		{NBMF_KIND_TEXT, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 32,
		 "\x02\x20\xd7\x9a\xf9\x98\x10\x61\x61\x01\x00\x22\xc0\x02", 14},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NbmfEncodeParams params = {.kind = cases[i].kind, .level = 3};
		uint8_t frame[200];
		uint8_t content[100];
		size_t frame_len = 0;
		NbmfFrame header;

		CHECK(nbmf_decode(&ws, NULL, cases[i].frame, cases[i].frame_len, content, sizeof(content),
						  &header) == NBMF_OK &&
				  header.kind == cases[i].kind && header.raw_len == cases[i].len &&
				  memcmp(content, cases[i].content, cases[i].len) == 0,
			  "decoding example %zu", i);
		/* another libzstd may compress otherwise, but stored frames are all one */
		CHECK(nbmf_encode(&ws, &params, cases[i].content, cases[i].len, frame, sizeof(frame),
						  &frame_len) == NBMF_OK &&
				  (cases[i].frame[0] & 15) == (frame[0] & 15) &&
				  ((frame[0] & 15) != NBMF_CODEC_STORED ||
				   (frame_len == cases[i].frame_len &&
					memcmp(frame, cases[i].frame, frame_len) == 0)),
			  "encoding example %zu", i);
	}
}

static void
misaligned(void)
{
	static const Pattern patterns[] = {PATTERN_JSON, PATTERN_NOISE, PATTERN_SAME};

	for (size_t shift = 0; shift < 16; shift++)
	{
		for (size_t i = 0; i < 3; i++)
		{
			NbmfEncodeParams params = {.kind = NBMF_KIND_VECTOR, .level = 3};
			const size_t len = 1000;
			size_t bound = nbmf_encode_bound(len);
			uint8_t *content = exact_alloc(shift + len);
			uint8_t *frame = exact_alloc(2 * 16 + bound);
			uint8_t *decoded = exact_alloc(shift + len);
			size_t frame_len;
			NbmfFrame header;

			pattern_fill(patterns[i], content + shift, len);
			CHECK(nbmf_encode(&ws, &params, content + shift, len, frame + (shift * 3) % 16, bound,
							  &frame_len) == NBMF_OK,
				  "offset %zu", shift);
			memmove(frame + (shift * 5) % 16, frame + (shift * 3) % 16, frame_len);
			CHECK(nbmf_decode(&ws, NULL, frame + (shift * 5) % 16, frame_len, decoded + shift, len,
							  &header) == NBMF_OK &&
					  memcmp(decoded + shift, content + shift, len) == 0,
				  "offset %zu", shift);
			free(content);
			free(frame);
			free(decoded);
		}
	}
}

/* Content whose compressed form is just at, and just over, its own length */
static void
barely_compressible(void)
{
	bool seen[4] = {false, false, false, false};

	for (size_t len = 16; len <= 400; len += quick_run ? 7 : 1)
	{
		/* noise with ever more of it repeated crosses the line once */
		for (size_t repeated = 0; repeated <= 24 && repeated <= len / 2; repeated++)
		{
			NbmfEncodeParams params = {.level = 1 + (int) (len % 19)};
			uint8_t *content = pattern_alloc(PATTERN_NOISE, len);
			size_t bound = nbmf_encode_bound(len);
			uint8_t *frame = exact_alloc(bound);
			size_t frame_len;

			memcpy(content + len - repeated, content, repeated);
			round_trip(&params, content, len);
			if (nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK)
				seen[frame[0] & 15] = true;
			free(frame);
			free(content);
		}
	}
	/* the same across two blocks: noise in the first, a little to gain in the second */
	for (size_t repeated = 0; repeated <= 40; repeated += quick_run ? 9 : 1)
	{
		NbmfEncodeParams params = {.level = 3};
		size_t len = 128 * KB + 100;
		uint8_t *content = pattern_alloc(PATTERN_NOISE, len);

		memcpy(content + len - repeated, content + 128 * KB, repeated);
		round_trip(&params, content, len);
		free(content);
	}
	CHECK(seen[NBMF_CODEC_STORED] && seen[NBMF_CODEC_ZSTD_BLOCK], "only one codec was tried");
}

void
test_round_trip(bool quick)
{
	quick_run = quick;
	tap_run("round trip: every length up to 2000", short_lengths);
	tap_run("round trip: every level, kind and tier", all_levels_and_kinds);
	tap_run("round trip: lengths around the limits of codecs and steps", long_lengths);
	tap_run("round trip: long content at high levels", long_high_levels);
	tap_run("round trip: content that is barely compressible", barely_compressible);
	tap_run("round trip: misaligned buffers", misaligned);
	tap_run("encode: choice of the codec", codec_choice);
	tap_run("frame: examples of docs/format.md", documented_examples);
	tap_run("encode: overhead", overhead);
	nbmf_workspace_free(&ws);
}
