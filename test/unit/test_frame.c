/*
 * test_frame.c
 *		The header of a frame: its bytes, its limits, its refusals.
 *
 * Only headers are made here; the payload that a header declares is never
 * there, because nbmf_frame_parse must not look at it.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define SUM_BYTES 0x44, 0x33, 0x22, 0x11
#define SUM       UINT32_C(0x11223344)

/* What the kind adds to the checksum on disk, times the kind's number */
#define KIND_MIX UINT32_C(0x9E3779B1)

/* Length codes worked out by hand from the format's table, limits of each size */
static const struct
{
	size_t raw_len;
	size_t code_len;
	uint8_t code[5];
} length_codes[] = {
	{0, 1, {0x00}},
	{1, 1, {0x01}},
	{127, 1, {0x7f}},
	{128, 2, {0x80, 0x00}},
	{129, 2, {0x80, 0x01}},
	{16511, 2, {0xbf, 0xff}},
	{16512, 3, {0xc0, 0x00, 0x00}},
	{2113663, 3, {0xdf, 0xff, 0xff}},
	{2113664, 4, {0xe0, 0x00, 0x00, 0x00}},
	{270549119, 4, {0xef, 0xff, 0xff, 0xff}},
	{270549120, 5, {0xf0, 0x00, 0x00, 0x00, 0x00}},
	{NBMF_CONTENT_MAX, 5, {0xf0, 0x2f, 0xdf, 0xbe, 0x80}},
};

#define LENGTH_CODES (sizeof(length_codes) / sizeof(length_codes[0]))

/* Parse a slice of a frame from memory of exactly that size */
static NbmfStatus
parse(const uint8_t *bytes, size_t avail, size_t frame_len, NbmfFrame *out)
{
	uint8_t *copy = exact_copy(bytes, avail);
	NbmfStatus status;

	memset(out, 0xee, sizeof(*out));
	status = nbmf_frame_parse(copy, avail, frame_len, out);
	free(copy);
	return status;
}

static size_t
make_header(uint8_t *dst, NbmfCodec codec, const uint8_t *code, size_t code_len)
{
	static const uint8_t sum[4] = {SUM_BYTES};

	memset(dst, 0, NBMF_FRAME_HEADER_MAX);
	dst[0] = (uint8_t) codec;
	memcpy(dst + 1, code, code_len);
	memcpy(dst + 1 + code_len, sum, sizeof(sum));
	return 1 + code_len + sizeof(sum);
}

/* The shortest zstd payload that raw_len can be plausible for */
static size_t
plausible_payload(size_t raw_len)
{
	return (raw_len + 131071) / 131072 * 4;
}

static void
header_bytes(void)
{
	for (size_t i = 0; i < LENGTH_CODES; i++)
	{
		size_t raw_len = length_codes[i].raw_len;
		uint8_t expected[NBMF_FRAME_HEADER_MAX];
		size_t header_len =
			make_header(expected, NBMF_CODEC_ZSTD, length_codes[i].code, length_codes[i].code_len);
		size_t payload_len = plausible_payload(raw_len);
		NbmfFrame frame = {.codec = NBMF_CODEC_ZSTD, .checksum = SUM, .raw_len = raw_len};
		uint8_t *written = exact_alloc(header_len);

		CHECK(nbmf_frame_header_len(NBMF_CODEC_ZSTD, 0, raw_len) == header_len, "%zu", raw_len);
		CHECK(nbmf_frame_header_len(NBMF_CODEC_ZSTD_BLOCK, 0, raw_len) == header_len, "%zu",
			  raw_len);
		CHECK(nbmf_frame_header_len(NBMF_CODEC_STORED, 0, raw_len) == 5, "%zu", raw_len);
		nbmf_frame_write_header(written, &frame);
		CHECK(memcmp(written, expected, header_len) == 0, "written bytes for %zu", raw_len);
		free(written);

		CHECK(parse(expected, sizeof(expected), header_len + payload_len + 100, &frame) == NBMF_OK,
			  "length %zu", raw_len);
		CHECK(frame.raw_len == raw_len, "%zu read as %zu", raw_len, frame.raw_len);
		CHECK(frame.checksum == SUM && frame.header_len == header_len &&
				  frame.payload_len == payload_len + 100 && frame.codec == NBMF_CODEC_ZSTD &&
				  frame.kind == NBMF_KIND_TEXT && frame.tier == NBMF_TIER_L1,
			  "other fields for %zu", raw_len);
	}
}

static void
header_round_trip(void)
{
	for (unsigned kind = 0; kind < 4; kind++)
	{
		for (unsigned tier = 0; tier < 3; tier++)
		{
			for (unsigned codec = 0; codec < 4; codec++)
			{
				NbmfFrame in = {.kind = (NbmfKind) kind,
								.tier = (NbmfTier) tier,
								.codec = (NbmfCodec) codec,
								.checksum = UINT32_C(0xfedcba98) + codec,
								.raw_len = 100000};
				NbmfFrame out;
				uint8_t bytes[NBMF_FRAME_HEADER_MAX] = {0};
				size_t header_len = nbmf_frame_header_len(in.codec, in.object, in.raw_len);

				nbmf_frame_write_header(bytes, &in);
				CHECK(bytes[0] == (codec | kind << 4 | tier << 6), "first byte is %02x", bytes[0]);
				CHECK((bytes[header_len - 4] | (uint32_t) bytes[header_len - 3] << 8 |
					   (uint32_t) bytes[header_len - 2] << 16 |
					   (uint32_t) bytes[header_len - 1] << 24) ==
						  (uint32_t) (in.checksum + kind * KIND_MIX),
					  "checksum for kind %u", kind);
				CHECK(parse(bytes, sizeof(bytes), header_len + in.raw_len, &out) == NBMF_OK,
					  "first byte %02x", bytes[0]);
				CHECK(out.kind == in.kind && out.tier == in.tier && out.codec == in.codec &&
						  out.checksum == in.checksum && out.raw_len == in.raw_len &&
						  out.header_len == header_len && out.payload_len == in.raw_len,
					  "fields for first byte %02x", bytes[0]);
			}
		}
	}
}

/*
 * Every code of one to three bytes gives another length, in order and without
 * a gap: then no length has two codes, and the writer's is the reader's.
 */
static void
length_codes_are_one_to_one(void)
{
	size_t expected = 0;

	for (uint32_t code = 0; code < 0xe00000; code++)
	{
		uint8_t header[NBMF_FRAME_HEADER_MAX] = {NBMF_CODEC_ZSTD};
		size_t code_len = code < 0x800000 ? 1 : code < 0xc00000 ? 2 : 3;
		NbmfFrame frame;

		/* bytes behind a short code are not part of it */
		if (code_len == 1 && (code & 0xffff) != 0)
			code = (code | 0xffff) + 1;
		else if (code_len == 2 && (code & 0xff) != 0)
			code = (code | 0xff) + 1;
		code_len = code < 0x800000 ? 1 : code < 0xc00000 ? 2 : 3;

		for (size_t i = 0; i < code_len; i++)
			header[1 + i] = (uint8_t) (code >> (16 - 8 * i));
		if (nbmf_frame_parse(header, sizeof(header), 1000, &frame) != NBMF_OK ||
			frame.raw_len != expected || frame.header_len != 5 + code_len ||
			nbmf_frame_header_len(NBMF_CODEC_ZSTD, 0, expected) != 5 + code_len)
		{
			CHECK(false, "code %06x of %zu bytes: length %zu instead of %zu", code, code_len,
				  frame.raw_len, expected);
			return;
		}
		expected++;
	}
	CHECK(expected == 2113664, "%zu lengths have short codes", expected);
}

static void
length_over_limit(void)
{
	static const uint8_t over[][5] = {
		{0xf0, 0x2f, 0xdf, 0xbe, 0x81}, /* NBMF_CONTENT_MAX + 1 */
		{0xf0, 0x2f, 0xdf, 0xbf, 0x00}, {0xf0, 0x30, 0x00, 0x00, 0x00},
		{0xf0, 0xef, 0xdf, 0xbf, 0x7f}, /* 2^32 - 1 */
		{0xf0, 0xef, 0xdf, 0xbf, 0x80}, /* 2^32 */
		{0xf0, 0xef, 0xdf, 0xbf, 0x81}, /* 2^32 + 1 */
		{0xf0, 0xff, 0xff, 0xff, 0xff}, {0xf1, 0x00, 0x00, 0x00, 0x00},
		{0xf1, 0x00, 0x00, 0x00, 0x01}, {0xf2, 0x00, 0x00, 0x00, 0x00},
		{0xf4, 0x00, 0x00, 0x00, 0x00}, {0xf7, 0xff, 0xff, 0xff, 0xff},
		{0xf8, 0x00, 0x00, 0x00, 0x00}, {0xfc, 0x00, 0x00, 0x00, 0x00},
		{0xfe, 0x00, 0x00, 0x00, 0x00}, {0xff, 0x00, 0x00, 0x00, 0x00},
		{0xff, 0xff, 0xff, 0xff, 0xff},
	};

	for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++)
	{
		uint8_t header[NBMF_FRAME_HEADER_MAX];
		NbmfFrame frame;

		make_header(header, NBMF_CODEC_ZSTD, over[i], sizeof(over[i]));
		/* a payload that no length is implausible for */
		CHECK(parse(header, sizeof(header), (size_t) 0x3fffffff, &frame) == NBMF_ERR_LENGTH,
			  "code %02x%02x%02x%02x%02x", over[i][0], over[i][1], over[i][2], over[i][3],
			  over[i][4]);
		CHECK(parse(header, sizeof(header), SIZE_MAX, &frame) == NBMF_ERR_LENGTH,
			  "code %02x%02x%02x%02x%02x", over[i][0], over[i][1], over[i][2], over[i][3],
			  over[i][4]);
	}
}

static void
truncated_headers(void)
{
	NbmfFrame frame;
	uint8_t header[NBMF_FRAME_HEADER_MAX];

	CHECK(parse((const uint8_t *) "", 0, 0, &frame) == NBMF_ERR_TRUNCATED, "empty frame");
	for (size_t i = 0; i < LENGTH_CODES; i++)
	{
		size_t header_len =
			make_header(header, NBMF_CODEC_ZSTD, length_codes[i].code, length_codes[i].code_len);

		for (size_t len = 0; len < header_len; len++)
			CHECK(parse(header, len, len, &frame) == NBMF_ERR_TRUNCATED,
				  "%zu of %zu bytes, content of %zu", len, header_len, length_codes[i].raw_len);
		/* a whole header without a payload */
		CHECK(parse(header, header_len, header_len, &frame) ==
				  (length_codes[i].raw_len == 0 ? NBMF_OK : NBMF_ERR_LENGTH),
			  "content of %zu", length_codes[i].raw_len);
	}
	make_header(header, NBMF_CODEC_STORED, header, 0);
	for (size_t len = 0; len < 5; len++)
		CHECK(parse(header, len, len, &frame) == NBMF_ERR_TRUNCATED, "%zu of 5 bytes", len);
	CHECK(parse(header, 5, 5, &frame) == NBMF_OK && frame.raw_len == 0, "stored, empty");
}

static void
first_bytes(void)
{
	for (unsigned first = 0; first < 256; first++)
	{
		/* the content's length, 8, fits every codec and kind */
		uint8_t bytes[1 + 1 + 4 + 8] = {(uint8_t) first, 8, SUM_BYTES};
		uint8_t with_object[1 + 1 + 4 + 8] = {(uint8_t) first, 9, 8, SUM_BYTES};
		unsigned codec = first & 15;
		unsigned kind = first >> 4 & 3;
		unsigned tier = first >> 6;
		NbmfFrame frame;
		bool object = codec >= 4;
		size_t len = codec == 0 ? 13 : 14;
		NbmfStatus status = parse(object ? with_object : bytes, len, len, &frame);

		/* the neural codecs' headers are shaped otherwise: test_neural.c */
		if ((codec == 10 || codec == 13) && tier < 3)
			continue;
		if (codec > 6 || tier == 3)
		{
			CHECK(status == NBMF_ERR_RESERVED, "first byte %02x: status %d", first, (int) status);
			/* nothing that is here later can make it good */
			CHECK(parse(bytes, 1, 1, &frame) == NBMF_ERR_RESERVED, "first byte %02x alone", first);
			continue;
		}
		CHECK(status == NBMF_OK, "first byte %02x: status %d", first, (int) status);
		CHECK((unsigned) frame.codec == codec && (unsigned) frame.kind == kind &&
				  (unsigned) frame.tier == tier && frame.raw_len == 8 &&
				  (codec == 0 || frame.checksum == SUM - kind * KIND_MIX) &&
				  frame.object == (object ? 9u : 0u) &&
				  frame.header_len == (codec == 0 ? 5u
									   : object   ? 7u
												  : 6u) &&
				  frame.payload_len == len - frame.header_len,
			  "fields for first byte %02x", first);
		CHECK(parse(bytes, 1, 1, &frame) == NBMF_ERR_TRUNCATED, "first byte %02x alone", first);
	}
}

/*
 * A length that the payload cannot decode to is refused by the parser, before
 * anybody allocates memory for it.
 */
static void
implausible_lengths(void)
{
	static const struct
	{
		NbmfCodec codec;
		size_t raw_len;
		size_t payload_len;
		NbmfStatus expected;
	} cases[] = {
		/* one block: nothing comes of nothing, and 128 KB is the most */
		{NBMF_CODEC_ZSTD_BLOCK, 0, 0, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCK, 1, 0, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCK, 1, 1, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCK, 131072, 1, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCK, 131073, 1, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCK, 131073, 1000000, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCK, NBMF_CONTENT_MAX, 100000000, NBMF_ERR_LENGTH},
		/* blocks: four bytes are the least for one, and 128 KB is the most in all */
		{NBMF_CODEC_ZSTD_BLOCKS, 0, 0, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCKS, 1, 0, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCKS, 1, 3, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCKS, 1, 4, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCKS, 131072, 4, NBMF_OK},
		{NBMF_CODEC_ZSTD_BLOCKS, 131073, 4, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD_BLOCKS, 131073, 1000000, NBMF_ERR_LENGTH},
		/* a frame: 128 KB for every four bytes */
		{NBMF_CODEC_ZSTD, 0, 0, NBMF_OK},
		{NBMF_CODEC_ZSTD, 1, 3, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD, 1, 4, NBMF_OK},
		{NBMF_CODEC_ZSTD, 131072, 4, NBMF_OK},
		{NBMF_CODEC_ZSTD, 131073, 4, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD, 131073, 7, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD, 131073, 8, NBMF_OK},
		{NBMF_CODEC_ZSTD, 262145, 11, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD, NBMF_CONTENT_MAX, 8191 * 4, NBMF_ERR_LENGTH},
		{NBMF_CODEC_ZSTD, NBMF_CONTENT_MAX, 8192 * 4, NBMF_OK},
		{NBMF_CODEC_ZSTD, NBMF_CONTENT_MAX, 0x3fffff00, NBMF_OK},
		{NBMF_CODEC_ZSTD, 1, SIZE_MAX - 100, NBMF_OK},
		/* neural, long form: 512 KB for every byte, and never a short document */
		{NBMF_CODEC_NEURAL_LONG, 16383, 100, NBMF_ERR_LENGTH},
		{NBMF_CODEC_NEURAL_LONG, 16384, 0, NBMF_OK},
		{NBMF_CODEC_NEURAL_LONG, NBMF_CHUNK, 0, NBMF_OK},
		{NBMF_CODEC_NEURAL_LONG, NBMF_CHUNK + 1, 0, NBMF_ERR_LENGTH},
		{NBMF_CODEC_NEURAL_LONG, NBMF_CHUNK + 1, 100000, NBMF_ERR_LENGTH},
		/* stored: the payload is the content */
		{NBMF_CODEC_STORED, NBMF_CONTENT_MAX, NBMF_CONTENT_MAX, NBMF_OK},
		{NBMF_CODEC_STORED, 0, NBMF_CONTENT_MAX + 1, NBMF_ERR_LENGTH},
		{NBMF_CODEC_STORED, 0, SIZE_MAX - 100, NBMF_ERR_LENGTH},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NbmfFrame frame = {.codec = cases[i].codec,
						   .object = nbmf_codec_has_model(cases[i].codec) ? 1 : 0,
						   .raw_len = cases[i].raw_len};
		uint8_t bytes[NBMF_FRAME_HEADER_MAX] = {0};
		size_t header_len = nbmf_frame_header_len(frame.codec, frame.object, frame.raw_len);
		size_t frame_len = header_len + cases[i].payload_len;
		NbmfStatus status;

		nbmf_frame_write_header(bytes, &frame);
		status =
			parse(bytes, frame_len < sizeof(bytes) ? frame_len : sizeof(bytes), frame_len, &frame);
		CHECK(status == cases[i].expected, "case %zu: codec %d, %zu bytes of %zu: status %d", i,
			  (int) cases[i].codec, cases[i].raw_len, cases[i].payload_len, (int) status);
		if (status == NBMF_OK)
			CHECK(frame.raw_len == cases[i].raw_len && frame.payload_len == cases[i].payload_len,
				  "fields of case %zu", i);
	}
}

/* Vectors have one or more float4 */
static void
vector_lengths(void)
{
	for (size_t len = 0; len < 40; len++)
	{
		for (unsigned codec = 0; codec < 4; codec++)
		{
			uint8_t bytes[NBMF_FRAME_HEADER_MAX] = {0};
			NbmfFrame frame = {
				.kind = NBMF_KIND_VECTOR, .codec = (NbmfCodec) codec, .raw_len = len};
			size_t frame_len = nbmf_frame_header_len(frame.codec, frame.object, len) + len + 4;
			NbmfStatus expected = len > 0 && len % 4 == 0 ? NBMF_OK : NBMF_ERR_CONTENT;

			if (codec == 0)
				frame_len -= 4;
			nbmf_frame_write_header(bytes, &frame);
			CHECK(parse(bytes, frame_len, frame_len, &frame) == expected,
				  "vector of %zu bytes, codec %u", len, codec);
		}
	}
}

/* How much of the frame is there makes no difference, from 64 bytes on */
static void
slices(void)
{
	uint8_t bytes[300] = {NBMF_CODEC_ZSTD, 0x81, 0x00, SUM_BYTES};

	for (size_t avail = NBMF_FRAME_HEADER_MAX; avail <= sizeof(bytes); avail++)
	{
		NbmfFrame frame;

		CHECK(parse(bytes, avail, sizeof(bytes), &frame) == NBMF_OK && frame.raw_len == 384 &&
				  frame.header_len == 7 && frame.payload_len == sizeof(bytes) - 7,
			  "slice of %zu", avail);
	}
}

static void
names(void)
{
	static const char *const codecs[16] = {
		"stored",      "zstd",        "zstd_block", "zstd_blocks", "dict",   "dict_block",
		"dict_blocks", "base",        "base_block", "base_blocks", "neural", "neural_base",
		"vector",      "neural_long", "unknown",    "unknown"};
	static const char *const kinds[5] = {"text", "json", "bytea", "vector", "unknown"};
	static const char *const tiers[4] = {"L1", "L2", "L3", "unknown"};

	for (int i = 0; i < 16; i++)
		CHECK(strcmp(nbmf_codec_name((NbmfCodec) i), codecs[i]) == 0, "codec %d", i);
	for (int i = 0; i < 5; i++)
		CHECK(strcmp(nbmf_kind_name((NbmfKind) i), kinds[i]) == 0, "kind %d", i);
	for (int i = 0; i < 4; i++)
		CHECK(strcmp(nbmf_tier_name((NbmfTier) i), tiers[i]) == 0, "tier %d", i);

	/* every status has its own sentence; the number behind the last has none */
	for (int i = 0; i <= NBMF_ERR_INTERRUPTED + 1; i++)
	{
		const char *text = nbmf_status_text((NbmfStatus) i);

		CHECK(strlen(text) > 5 && text[strlen(text) - 1] == '.', "status %d: %s", i, text);
		CHECK((strcmp(text, "Unknown error.") == 0) == (i > NBMF_ERR_OBJECT), "status %d", i);
		for (int j = 0; j < i; j++)
			CHECK(strcmp(text, nbmf_status_text((NbmfStatus) j)) != 0, "status %d and %d", i, j);
	}
}

void
test_frame(bool quick)
{
	(void) quick;
	tap_run("frame: bytes of headers at the limits of the length code", header_bytes);
	tap_run("frame: every codec, kind and tier", header_round_trip);
	tap_run("frame: length codes are one to one", length_codes_are_one_to_one);
	tap_run("frame: lengths over the limit are refused", length_over_limit);
	tap_run("frame: every truncation of a header is refused", truncated_headers);
	tap_run("frame: every first byte", first_bytes);
	tap_run("frame: lengths that the payload cannot have are refused", implausible_lengths);
	tap_run("frame: lengths of vectors", vector_lengths);
	tap_run("frame: slices", slices);
	tap_run("frame: names", names);
}
