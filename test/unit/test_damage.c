/*
 * test_damage.c
 *		Damaged and hostile frames.
 *
 * What a frame's checksum covers is the content and its kind.  So damage to the
 * codec, the kind, the length, the checksum and the payload either is found or
 * changes nothing: content that is returned is always the content that was
 * encoded.  The two bits that say the tier are not covered: a change of theirs
 * to another tier is NOT found, a change to the reserved one is.
 * first_byte_flips pins exactly that.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* A frame, what it was made of, and memory to decode it into */
typedef struct Sample
{
	const char *name;
	NbmfKind kind;
	NbmfTier tier;
	NbmfCodec codec;
	size_t raw_len;
	size_t frame_len;
	uint8_t *content;
	uint8_t *frame;
} Sample;

static bool quick_run;
static NbmfWorkspace ws;

static const struct
{
	const char *name;
	Pattern pattern;
	size_t len;
	int level;
	NbmfKind kind;
	NbmfTier tier;
	NbmfCodec codec;
} sample_kinds[] = {
	{"empty", PATTERN_SAME, 0, 3, NBMF_KIND_TEXT, NBMF_TIER_L1, NBMF_CODEC_STORED},
	{"one byte", PATTERN_SAME, 1, 3, NBMF_KIND_BYTEA, NBMF_TIER_L2, NBMF_CODEC_STORED},
	{"short text", PATTERN_WORDS, 13, 3, NBMF_KIND_TEXT, NBMF_TIER_L1, NBMF_CODEC_STORED},
	{"noise", PATTERN_NOISE, 300, 3, NBMF_KIND_BYTEA, NBMF_TIER_L3, NBMF_CODEC_STORED},
	{"short vector", PATTERN_NOISE, 32, 3, NBMF_KIND_VECTOR, NBMF_TIER_L1, NBMF_CODEC_STORED},
	{"small block", PATTERN_JSON, 150, 3, NBMF_KIND_JSON, NBMF_TIER_L1, NBMF_CODEC_ZSTD_BLOCK},
	{"block", PATTERN_JSON, 1000, 3, NBMF_KIND_JSON, NBMF_TIER_L2, NBMF_CODEC_ZSTD_BLOCK},
	{"block at level 19", PATTERN_LOG, 3000, 19, NBMF_KIND_TEXT, NBMF_TIER_L3,
	 NBMF_CODEC_ZSTD_BLOCK},
	{"vector block", PATTERN_FLOATS, 1024, 9, NBMF_KIND_VECTOR, NBMF_TIER_L1,
	 NBMF_CODEC_ZSTD_BLOCK},
	{"split block", PATTERN_HALVES, 131072, 19, NBMF_KIND_TEXT, NBMF_TIER_L1,
	 NBMF_CODEC_ZSTD_BLOCKS},
	{"frame of many blocks", PATTERN_SAME, 2200000, 1, NBMF_KIND_TEXT, NBMF_TIER_L2,
	 NBMF_CODEC_ZSTD},
	{"frame of two blocks", PATTERN_LOG, 140000, 19, NBMF_KIND_BYTEA, NBMF_TIER_L1,
	 NBMF_CODEC_ZSTD},
};

#define SAMPLES (sizeof(sample_kinds) / sizeof(sample_kinds[0]))

static Sample samples[SAMPLES];

static void
make_samples(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
	{
		Sample *s = &samples[i];
		NbmfEncodeParams params = {.kind = sample_kinds[i].kind,
								   .tier = sample_kinds[i].tier,
								   .level = sample_kinds[i].level};
		uint8_t *frame;
		NbmfStatus status;

		s->name = sample_kinds[i].name;
		s->kind = params.kind;
		s->tier = params.tier;
		s->raw_len = sample_kinds[i].len;
		s->content = pattern_alloc(sample_kinds[i].pattern, s->raw_len);
		frame = exact_alloc(nbmf_encode_bound(s->raw_len));
		status = nbmf_encode(&ws, &params, s->content, s->raw_len, frame,
							 nbmf_encode_bound(s->raw_len), &s->frame_len);
		s->frame = exact_copy(frame, s->frame_len);
		s->codec = (NbmfCodec) (s->frame[0] & 15);
		free(frame);
		CHECK(status == NBMF_OK && s->codec == sample_kinds[i].codec, "%s: status %d, codec %d",
			  s->name, (int) status, (int) s->codec);
	}
}

/*
 * Decode as a caller does: parse, allocate exactly the declared length, decode.
 * *same says whether the content is the sample's.
 */
static NbmfStatus
decode(const uint8_t *frame, size_t frame_len, const Sample *s, NbmfFrame *header, bool *same)
{
	NbmfStatus status = nbmf_frame_parse(frame, frame_len, frame_len, header);
	uint8_t *content;

	*same = false;
	if (status != NBMF_OK)
	{
		/* a caller who does not parse first is told the same */
		CHECK(nbmf_decode(&ws, NULL, frame, frame_len, NULL, 0, header) == status, "%s: status %d",
			  s->name, (int) status);
		return status;
	}
	/* long declared lengths are possible, but would make the tests slow */
	if (header->raw_len > 8000000)
		return NBMF_ERR_LENGTH;
	content = exact_alloc(header->raw_len);
	frame = guarded_copy(frame, frame_len);
	status = nbmf_decode(&ws, NULL, frame, frame_len, content, header->raw_len, header);
	if (status == NBMF_OK)
		*same = header->raw_len == s->raw_len &&
				(s->raw_len == 0 || memcmp(content, s->content, s->raw_len) == 0);
	free(content);
	return status;
}

static void
undamaged(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
	{
		NbmfFrame header;
		bool same;

		CHECK(decode(samples[i].frame, samples[i].frame_len, &samples[i], &header, &same) ==
					  NBMF_OK &&
				  same,
			  "%s", samples[i].name);
	}
}

/* How many bits or bytes of a sample to go on by; primes reach all bits in turn */
static size_t
step(const Sample *s)
{
	if (quick_run)
		return s->frame_len > 5000 ? 487 : s->frame_len > 100 ? 11 : 1;
	return s->frame_len > 5000 ? 23 : 1;
}

/*
 * Flip every bit behind the first byte: header and checksum flips are always
 * found; payload flips are found or say the same as before.
 */
static void
bit_flips(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
	{
		const Sample *s = &samples[i];
		uint8_t *frame = exact_copy(s->frame, s->frame_len);
		size_t header_len = nbmf_frame_header_len(s->codec, 0, s->raw_len);

		for (size_t bit = 8; bit < 8 * s->frame_len; bit += step(s))
		{
			NbmfFrame header;
			bool same;
			NbmfStatus status;

			frame[bit / 8] ^= (uint8_t) (1u << bit % 8);
			status = decode(frame, s->frame_len, s, &header, &same);
			CHECK(status != NBMF_OK || same,
				  "%s: other content after a flip of bit %zu of byte %zu", s->name, bit % 8,
				  bit / 8);
			if (bit / 8 < header_len || s->codec == NBMF_CODEC_STORED)
				CHECK(status != NBMF_OK, "%s: flip of bit %zu of byte %zu is not found", s->name,
					  bit % 8, bit / 8);
			if (status == NBMF_OK)
				CHECK(header.kind == s->kind && header.tier == s->tier, "%s: kind or tier",
					  s->name);
			frame[bit / 8] ^= (uint8_t) (1u << bit % 8);
		}
		free(frame);
	}
}

/*
 * Change the first byte to every other value.  Another codec and another kind
 * are always found, another valid tier is not: see the top of this file.
 */
static void
first_byte_flips(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
	{
		const Sample *s = &samples[i];
		uint8_t *frame = exact_copy(s->frame, s->frame_len);

		for (unsigned first = 0; first < 256; first++)
		{
			bool codec_kept = (first & 15) == (unsigned) s->codec;
			unsigned kind = first >> 4 & 3;
			unsigned tier = first >> 6;
			NbmfFrame header;
			bool same;
			NbmfStatus status;

			frame[0] = (uint8_t) first;
			status = decode(frame, s->frame_len, s, &header, &same);
			if (tier == 3)
				CHECK(status == NBMF_ERR_RESERVED, "%s: first byte %02x", s->name, first);
			else if (!codec_kept)
				CHECK(status != NBMF_OK, "%s: first byte %02x, other codec", s->name, first);
			else if (kind == (unsigned) s->kind)
				CHECK(status == NBMF_OK && same && (unsigned) header.tier == tier &&
						  header.kind == s->kind,
					  "%s: first byte %02x, other tier", s->name, first);
			else if (kind == NBMF_KIND_VECTOR && (s->raw_len == 0 || s->raw_len % 4 != 0))
				CHECK(status == NBMF_ERR_CONTENT, "%s: first byte %02x", s->name, first);
			else
				CHECK(status == NBMF_ERR_CHECKSUM, "%s: first byte %02x, other kind", s->name,
					  first);
		}
		free(frame);
	}
}

static void
cut_and_extended(void)
{
	for (size_t i = 0; i < SAMPLES; i++)
	{
		const Sample *s = &samples[i];
		uint8_t *longer = exact_alloc(s->frame_len + 1);
		NbmfFrame header;
		bool same;

		for (size_t len = 0; len < s->frame_len; len += step(s))
		{
			uint8_t *cut = exact_copy(s->frame, len);

			CHECK(decode(cut, len, s, &header, &same) != NBMF_OK, "%s: %zu of %zu bytes", s->name,
				  len, s->frame_len);
			free(cut);
		}
		memcpy(longer, s->frame, s->frame_len);
		for (unsigned value = 0; value < 256; value++)
		{
			longer[s->frame_len] = (uint8_t) value;
			CHECK(decode(longer, s->frame_len + 1, s, &header, &same) != NBMF_OK,
				  "%s: byte %02x added", s->name, value);
		}
		free(longer);
	}
}

/* Many bytes changed at once, lengths and checksums with them */
static void
random_damage(void)
{
	uint64_t state = 7;
	size_t rounds = quick_run ? 300 : 8000;

	for (size_t i = 0; i < SAMPLES; i++)
	{
		const Sample *s = &samples[i];

		for (size_t round = 0; round < rounds / step(s); round++)
		{
			size_t len = s->frame_len;
			uint8_t *frame;
			NbmfFrame header;
			bool same;

			if (random_next(&state) >> 62 == 0)
				len = 1 + (size_t) (random_next(&state) % len);
			frame = exact_copy(s->frame, len);
			for (unsigned edits = 1 + (unsigned) (random_next(&state) >> 60); edits > 0; edits--)
			{
				/* half of them in the first bytes */
				size_t range = random_next(&state) >> 63 && len > 16 ? 16 : len;

				frame[random_next(&state) % range] = (uint8_t) random_next(&state);
			}
			if (decode(frame, len, s, &header, &same) == NBMF_OK)
				CHECK(same, "%s: other content in round %zu", s->name, round);
			free(frame);
		}
	}
}

/* A zstd payload with a header that fits it: its status, and whether it is text */
static NbmfStatus
decode_payload(NbmfCodec codec, const uint8_t *payload, size_t payload_len, const char *text,
			   size_t len)
{
	NbmfFrame frame = {.codec = codec, .raw_len = len, .checksum = nbmf_checksum(text, len)};
	size_t header_len = nbmf_frame_header_len(codec, 0, len);
	uint8_t *bytes = exact_alloc(header_len + payload_len);
	uint8_t *content = exact_alloc(len);
	NbmfStatus status;

	nbmf_frame_write_header(bytes, &frame);
	memcpy(bytes + header_len, payload, payload_len);
	status = nbmf_decode(&ws, NULL, guarded_copy(bytes, header_len + payload_len),
						 header_len + payload_len, content, len, &frame);
	if (status == NBMF_OK)
		CHECK(len == 0 || memcmp(content, text, len) == 0, "content");
	free(bytes);
	free(content);
	return status;
}

/*
 * Payloads written by hand from RFC 8878: what this library's encoder never
 * writes, but its decoder meets in damaged or foreign frames.
 */
static void
payloads_by_hand(void)
{
	static const struct
	{
		const char *name;
		NbmfCodec codec;
		NbmfStatus expected;
		const char *text;
		size_t payload_len;
		uint8_t payload[24];
	} cases[] = {
		{"raw block",
		 NBMF_CODEC_ZSTD,
		 NBMF_OK,
		 "abcd",
		 9,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"run", NBMF_CODEC_ZSTD, NBMF_OK, "aaaa", 6, {0x00, 0x00, 0x23, 0, 0, 'a'}},
		{"two blocks",
		 NBMF_CODEC_ZSTD,
		 NBMF_OK,
		 "abaaaa",
		 11,
		 {0x00, 0x00, 0x10, 0, 0, 'a', 'b', 0x23, 0, 0, 'a'}},
		{"block of literals",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_OK,
		 "abcd",
		 6,
		 {0x20, 'a', 'b', 'c', 'd', 0x00}},
		{"blocks: raw",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_OK,
		 "abcd",
		 7,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: run", NBMF_CODEC_ZSTD_BLOCKS, NBMF_OK, "aaaa", 4, {0x23, 0, 0, 'a'}},
		{"blocks: two",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_OK,
		 "abaaaa",
		 9,
		 {0x10, 0, 0, 'a', 'b', 0x23, 0, 0, 'a'}},
		{"blocks: empty", NBMF_CODEC_ZSTD_BLOCKS, NBMF_OK, "", 3, {0x01, 0, 0}},
		{"blocks: none", NBMF_CODEC_ZSTD_BLOCKS, NBMF_ERR_PAYLOAD, "", 0, {0}},
		{"blocks: none is last",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 7,
		 {0x20, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: shorter than declared",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcde",
		 7,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: longer than declared",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abc",
		 7,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: other content",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_CHECKSUM,
		 "abce",
		 7,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: block type 3",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 7,
		 {0x27, 0, 0, 'a', 'b', 'c', 'd'}},
		{"blocks: byte behind the last one",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 8,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd', 0}},
		{"blocks: frame header",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"content shorter than declared",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_LENGTH,
		 "abcde",
		 9,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"content longer than declared",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abc",
		 9,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"other content",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_CHECKSUM,
		 "abce",
		 9,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"block shorter than declared",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_ERR_PAYLOAD,
		 "abcde",
		 6,
		 {0x20, 'a', 'b', 'c', 'd', 0x00}},
		{"block longer than declared",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_ERR_PAYLOAD,
		 "abc",
		 6,
		 {0x20, 'a', 'b', 'c', 'd', 0x00}},
		{"block of other content",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_ERR_CHECKSUM,
		 "abce",
		 6,
		 {0x20, 'a', 'b', 'c', 'd', 0x00}},
		{"no last block",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x00, 0x00, 0x20, 0, 0, 'a', 'b', 'c', 'd'}},
		{"block type 3",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x00, 0x00, 0x27, 0, 0, 'a', 'b', 'c', 'd'}},
		{"reserved bit",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x08, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"dictionary id",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 10,
		 {0x01, 0x00, 0x07, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"content size that is too small",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x20, 0x03, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"content size that is too large",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x20, 0x05, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"content size that is right",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x20, 0x04, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"no frame", NBMF_CODEC_ZSTD, NBMF_ERR_PAYLOAD, "", 0, {0}},
		{"half a frame header", NBMF_CODEC_ZSTD, NBMF_ERR_PAYLOAD, "", 1, {0x00}},
		{"two frames",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 14,
		 {0x00, 0x00, 0x11, 0, 0, 'a', 'b', 0x00, 0x00, 0x11, 0, 0, 'c', 'd'}},
		{"skippable frame behind",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 17,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd', 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}},
		{"blocks: skippable frame behind",
		 NBMF_CODEC_ZSTD_BLOCKS,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 15,
		 {0x21, 0, 0, 'a', 'b', 'c', 'd', 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}},
		{"magic number",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 13,
		 {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
		{"byte behind the last block",
		 NBMF_CODEC_ZSTD,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 10,
		 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd', 0}},
		{"literals that need a table from before",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_ERR_PAYLOAD,
		 "abcd",
		 9,
		 {0x43, 0x40, 0x00, 'a', 'b', 'c', 'd', 0x01, 0x00}},
		{"match before the beginning",
		 NBMF_CODEC_ZSTD_BLOCK,
		 NBMF_ERR_PAYLOAD,
		 "aaaa",
		 7,
		 {0x08, 'a', 0x01, 0x54, 0x00, 0x00, 0x00}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		NbmfStatus status = decode_payload(cases[i].codec, cases[i].payload, cases[i].payload_len,
										   cases[i].text, strlen(cases[i].text));

		CHECK(status == cases[i].expected, "%s: status %d instead of %d", cases[i].name,
			  (int) status, (int) cases[i].expected);
	}
}

/*
 * A payload of codec 1 is a magicless zstd frame.  libzstd, left alone, also
 * takes skippable frames, and the frames of zstd 0.5 to 0.7, which it knows by
 * the magic number and hands to decoders that hardly anybody tests any more.
 */
static void
other_formats(void)
{
	static const struct
	{
		const char *name;
		size_t payload_len;
		uint8_t payload[24];
	} cases[] = {
		{"frame of zstd 0.5",
		 15,
		 {0x25, 0xb5, 0x2f, 0xfd, 0x00, 0x40, 0, 4, 'a', 'b', 'c', 'd', 0xc0, 0, 0}},
		{"frame of zstd 0.7",
		 16,
		 {0x27, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x40, 0, 4, 'a', 'b', 'c', 'd', 0xc0, 0, 0}},
		{"skippable frame", 20, {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0,   0,   1,   2,
								 3,    0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(decode_payload(NBMF_CODEC_ZSTD, cases[i].payload, cases[i].payload_len, "abcd", 4) ==
				  NBMF_ERR_PAYLOAD,
			  "%s is decoded", cases[i].name);
}

/* Blocks are at most 128 KB; longer payloads would not fit where they are rebuilt */
static void
blocks_too_long(void)
{
	const size_t limit = 128 * 1024;
	char *text = exact_alloc(limit);

	memset(text, 'x', limit);
	for (size_t len = limit - 8; len <= limit + 9; len++)
	{
		uint8_t *payload = pattern_alloc(PATTERN_SAME, len);
		size_t literals = len - 4;
		NbmfStatus status;

		/* the body of a block: raw literals, all that is there, and no sequences */
		payload[0] = (uint8_t) (0x0c | literals << 4);
		payload[1] = (uint8_t) (literals >> 4);
		payload[2] = (uint8_t) (literals >> 12);
		payload[len - 1] = 0;
		status = decode_payload(NBMF_CODEC_ZSTD_BLOCK, payload, len, text,
								literals < limit ? literals : limit);
		/* a block may be as long as its content, and up to 128 KB */
		CHECK(status == NBMF_ERR_PAYLOAD || (len <= limit && status == NBMF_OK),
			  "block of %zu bytes: status %d", len, (int) status);

		/* one raw block, and behind it as many empty ones as it takes */
		literals = 4 + (len - 7) % 3;
		memset(payload, 'x', len);
		memset(payload + 3 + literals, 0, len - 3 - literals);
		payload[0] = (uint8_t) (literals << 3);
		payload[1] = payload[2] = 0;
		payload[len - 3] = 1;
		status = decode_payload(NBMF_CODEC_ZSTD_BLOCKS, payload, len, text, literals);
		CHECK(status == (len <= limit ? NBMF_OK : NBMF_ERR_PAYLOAD),
			  "blocks of %zu bytes: status %d", len, (int) status);
		free(payload);
	}
	free(text);
}

static void
works_afterwards(void)
{
	undamaged();
	nbmf_workspace_free(&ws);
	for (size_t i = 0; i < SAMPLES; i++)
	{
		free(samples[i].content);
		free(samples[i].frame);
	}
}

void
test_damage(bool quick)
{
	quick_run = quick;
	tap_run("damage: samples", make_samples);
	tap_run("damage: none", undamaged);
	tap_run("damage: every single bit behind the first byte", bit_flips);
	tap_run("damage: every first byte", first_byte_flips);
	tap_run("damage: frames cut short or extended", cut_and_extended);
	tap_run("damage: random", random_damage);
	tap_run("hostile: payloads written by hand", payloads_by_hand);
	tap_run("hostile: other formats that libzstd knows", other_formats);
	tap_run("hostile: blocks that are too long", blocks_too_long);
	tap_run("damage: the workspace still works", works_afterwards);
}
