/*
 * golden_write.c
 *		Making golden files: unit --write-golden test/golden
 *
 * Add a line to one of the tables and run it: files that are there already are
 * left alone, whatever today's encoder would make of them, and new ones are
 * added with their line of the MANIFEST.
 */
#include "unit.h"

#include "crypto/crypto.h"

#include "neural_sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NbmfWorkspace ws;
static int written;
static int trouble;

/* Frames as the encoder makes them */
static const struct
{
	const char *name;
	Pattern pattern;
	size_t len;
	int level;
	NbmfKind kind;
	NbmfTier tier;
} encoded[] = {
	{"text-empty", PATTERN_SAME, 0, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-stored-1", PATTERN_SAME, 1, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-stored-15", PATTERN_WORDS, 15, 3, NBMF_KIND_TEXT, NBMF_TIER_L2},
	{"json-stored-1", PATTERN_JSON, 1, 3, NBMF_KIND_JSON, NBMF_TIER_L1},
	{"bytea-empty", PATTERN_SAME, 0, 3, NBMF_KIND_BYTEA, NBMF_TIER_L3},
	{"bytea-stored-300", PATTERN_NOISE, 300, 19, NBMF_KIND_BYTEA, NBMF_TIER_L3},
	{"vector-stored-4", PATTERN_FLOATS, 4, 3, NBMF_KIND_VECTOR, NBMF_TIER_L1},
	{"vector-stored-64", PATTERN_NOISE, 64, 3, NBMF_KIND_VECTOR, NBMF_TIER_L2},
	{"text-block-32", PATTERN_SAME, 32, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-block-127", PATTERN_WORDS, 127, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-block-128", PATTERN_WORDS, 128, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-block-255", PATTERN_WORDS, 255, 1, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-block-256", PATTERN_WORDS, 256, 22, NBMF_KIND_TEXT, NBMF_TIER_L3},
	{"json-block-150", PATTERN_JSON, 150, 3, NBMF_KIND_JSON, NBMF_TIER_L1},
	{"json-block-1000", PATTERN_JSON, 1000, 3, NBMF_KIND_JSON, NBMF_TIER_L1},
	{"json-block-16511", PATTERN_JSON, 16511, 19, NBMF_KIND_JSON, NBMF_TIER_L2},
	{"json-block-16512", PATTERN_JSON, 16512, 19, NBMF_KIND_JSON, NBMF_TIER_L2},
	{"vector-block-1024", PATTERN_FLOATS, 1024, 9, NBMF_KIND_VECTOR, NBMF_TIER_L1},
	{"text-block-65791", PATTERN_LOG, 65791, 19, NBMF_KIND_TEXT, NBMF_TIER_L2},
	{"text-block-65792", PATTERN_LOG, 65792, 19, NBMF_KIND_TEXT, NBMF_TIER_L2},
	{"bytea-block-131072", PATTERN_SAME, 131072, 3, NBMF_KIND_BYTEA, NBMF_TIER_L1},
	{"text-blocks-131072", PATTERN_HALVES, 131072, 19, NBMF_KIND_TEXT, NBMF_TIER_L2},
	{"text-frame-131073", PATTERN_SAME, 131073, 3, NBMF_KIND_TEXT, NBMF_TIER_L1},
	{"text-frame-200000", PATTERN_LOG, 200000, 19, NBMF_KIND_TEXT, NBMF_TIER_L3},
	{"bytea-frame-2113663", PATTERN_SAME, 2113663, 1, NBMF_KIND_BYTEA, NBMF_TIER_L1},
	{"bytea-frame-2113664", PATTERN_SAME, 2113664, 1, NBMF_KIND_BYTEA, NBMF_TIER_L1},
};

/*
 * Payloads by hand, after RFC 8878, under a header that declares len bytes with
 * the checksum of text: other encoders may write such frames, or damage may.
 */
static const struct
{
	const char *name;
	NbmfStatus status;
	NbmfKind kind;
	NbmfCodec codec;
	const char *text;
	size_t len;
	size_t payload_len;
	uint8_t payload[32];
} by_hand[] = {
	{"frame-raw",
	 NBMF_OK,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 9,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-raw-run",
	 NBMF_OK,
	 NBMF_KIND_VECTOR,
	 NBMF_CODEC_ZSTD,
	 "abaaaaaa",
	 8,
	 11,
	 {0x00, 0x00, 0x10, 0, 0, 'a', 'b', 0x33, 0, 0, 'a'}},
	{"blocks-raw",
	 NBMF_OK,
	 NBMF_KIND_JSON,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "1234",
	 4,
	 7,
	 {0x21, 0, 0, '1', '2', '3', '4'}},
	{"blocks-run",
	 NBMF_OK,
	 NBMF_KIND_BYTEA,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "aaaa",
	 4,
	 4,
	 {0x23, 0, 0, 'a'}},
	{"block-literals",
	 NBMF_OK,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "abcd",
	 4,
	 6,
	 {0x20, 'a', 'b', 'c', 'd', 0}},
	{"block-example",
	 NBMF_OK,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	 32,
	 8,
	 {0x10, 'a', 'a', 0x01, 0x00, 0x22, 0xc0, 0x02}},

	{"frame-shorter",
	 NBMF_ERR_LENGTH,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcde",
	 5,
	 9,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-longer",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abc",
	 3,
	 9,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-other-content",
	 NBMF_ERR_CHECKSUM,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abce",
	 4,
	 9,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-not-last",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 9,
	 {0x00, 0x00, 0x20, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-block-type",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 9,
	 {0x00, 0x00, 0x27, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-reserved-bit",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 9,
	 {0x08, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-dictionary",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 10,
	 {0x01, 0x00, 0x07, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-magic",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 13,
	 {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"frame-trailing-byte",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "abcd",
	 4,
	 10,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd', 0}},
	{"blocks-not-last",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "abcd",
	 4,
	 7,
	 {0x20, 0, 0, 'a', 'b', 'c', 'd'}},
	{"blocks-shorter",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "abcde",
	 5,
	 7,
	 {0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"blocks-with-frame-header",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "abcd",
	 4,
	 9,
	 {0x00, 0x00, 0x21, 0, 0, 'a', 'b', 'c', 'd'}},
	{"block-shorter",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "abcde",
	 5,
	 6,
	 {0x20, 'a', 'b', 'c', 'd', 0}},
	{"block-longer",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "abc",
	 3,
	 6,
	 {0x20, 'a', 'b', 'c', 'd', 0}},
	{"block-other-content",
	 NBMF_ERR_CHECKSUM,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "abce",
	 4,
	 6,
	 {0x20, 'a', 'b', 'c', 'd', 0}},
	{"block-cut",
	 NBMF_ERR_PAYLOAD,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	 32,
	 7,
	 {0x10, 'a', 'a', 0x01, 0x00, 0x22, 0xc0}},
	{"block-over-128k",
	 NBMF_ERR_LENGTH,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "",
	 131073,
	 6,
	 {0x20, 'a', 'b', 'c', 'd', 0}},
	{"frame-implausible",
	 NBMF_ERR_LENGTH,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD,
	 "",
	 131073,
	 7,
	 {0x00, 0x00, 0x23, 0, 0, 'a', 0}},
	{"block-without-payload",
	 NBMF_ERR_LENGTH,
	 NBMF_KIND_TEXT,
	 NBMF_CODEC_ZSTD_BLOCK,
	 "abcd",
	 4,
	 0,
	 {0}},
	{"vector-odd",
	 NBMF_ERR_CONTENT,
	 NBMF_KIND_VECTOR,
	 NBMF_CODEC_ZSTD_BLOCKS,
	 "abc",
	 3,
	 6,
	 {0x19, 0, 0, 'a', 'b', 'c'}},
};

/* Whole frames by hand: none of their headers is one */
static const struct
{
	const char *name;
	NbmfStatus status;
	size_t len;
	uint8_t bytes[16];
} headers[] = {
	{"nothing", NBMF_ERR_TRUNCATED, 0, {0}},
	{"header-1-byte", NBMF_ERR_TRUNCATED, 1, {0x02}},
	{"header-no-checksum", NBMF_ERR_TRUNCATED, 4, {0x00, 0x99, 0xe9, 0xd8}},
	{"header-half-length", NBMF_ERR_TRUNCATED, 2, {0x02, 0x80}},
	{"stored-checksum", NBMF_ERR_CHECKSUM, 8, {0x00, 0x98, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	{"stored-content", NBMF_ERR_CHECKSUM, 8, {0x00, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'b'}},
	{"stored-kind", NBMF_ERR_CHECKSUM, 8, {0x20, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	{"stored-cut", NBMF_ERR_CHECKSUM, 7, {0x00, 0x99, 0x09, 0x77, 0xad, 'a', 'b'}},
	{"vector-empty", NBMF_ERR_CONTENT, 5, {0x30, 0x99, 0xe9, 0xd8, 0x51}},
	{"tier-3", NBMF_ERR_RESERVED, 8, {0xc0, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	{"codec-14", NBMF_ERR_RESERVED, 8, {0x0e, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	/* written when 13 was not taken; now a long payload that is too short */
	{"codec-13", NBMF_ERR_LENGTH, 8, {0x0d, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	{"codec-15", NBMF_ERR_RESERVED, 8, {0x0f, 0x99, 0x09, 0x77, 0xad, 'a', 'b', 'c'}},
	{"length-over-limit",
	 NBMF_ERR_LENGTH,
	 16,
	 {0x01, 0xf0, 0x2f, 0xdf, 0xbe, 0x81, 0, 0, 0, 0, 0x00, 0x00, 0x23, 0, 0, 'a'}},
	{"length-first-byte-f1",
	 NBMF_ERR_LENGTH,
	 16,
	 {0x01, 0xf1, 0x00, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0x00, 0x00, 0x23, 0, 0, 'a'}},
	{"length-first-byte-f8",
	 NBMF_ERR_LENGTH,
	 16,
	 {0x01, 0xf8, 0x00, 0x00, 0x00, 0x00, 0, 0, 0, 0, 0x00, 0x00, 0x23, 0, 0, 'a'}},
	{"length-first-byte-ff",
	 NBMF_ERR_LENGTH,
	 16,
	 {0x03, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x23, 0, 0, 'a'}},
};

/*
 * Write a frame's file, unless it is there, and its line of the MANIFEST.
 * pattern is NULL for content that is given in hex.
 */
static void
write_frame(const char *dir, const char *name, NbmfStatus expected, const uint8_t *frame,
			size_t frame_len, const char *pattern)
{
	char file_name[80];
	char path[1000];
	uint8_t *content;
	NbmfFrame header;
	NbmfStatus status;
	FILE *file;

	snprintf(file_name, sizeof(file_name), "%s-%s.nbmf", expected == NBMF_OK ? "valid" : "corrupt",
			 name);
	snprintf(path, sizeof(path), "%s/%s", dir, file_name);
	file = fopen(path, "rb");
	if (file != NULL)
	{
		fclose(file);
		return;
	}

	/* what is written down is what was expected, not what came out */
	status = nbmf_frame_parse(frame, frame_len, frame_len, &header);
	content = exact_alloc(status == NBMF_OK ? header.raw_len : 1);
	if (status == NBMF_OK)
		status = nbmf_decode(
			&ws,
			nbmf_codec_has_model(header.codec) ? &(NbmfObjects){.model = golden_model(dir)} : NULL,
			frame, frame_len, content, header.raw_len, &header);
	if (status != expected)
	{
		fprintf(stderr, "%s: %s instead of %s\n", name, golden_status_name(status),
				golden_status_name(expected));
		trouble++;
		free(content);
		return;
	}

	file = fopen(path, "wb");
	if (file == NULL || fwrite(frame, 1, frame_len, file) != frame_len || fclose(file) != 0)
	{
		perror(path);
		exit(2);
	}
	snprintf(path, sizeof(path), "%s/MANIFEST", dir);
	file = fopen(path, "a");
	if (file == NULL)
	{
		perror(path);
		exit(2);
	}
	fprintf(file, "%s %s ", file_name, golden_status_name(expected));
	if (expected == NBMF_OK)
	{
		uint8_t digest[NBMF_SHA256_LEN];

		nbmf_sha256(content, header.raw_len, digest);
		fprintf(file, "%s %s %s %zu ", nbmf_kind_name(header.kind), nbmf_tier_name(header.tier),
				nbmf_codec_name(header.codec), header.raw_len);
		for (size_t i = 0; i < NBMF_SHA256_LEN; i++)
			fprintf(file, "%02x", digest[i]);
		fprintf(file, " %s", pattern != NULL ? pattern : "=");
		for (size_t i = 0; pattern == NULL && i < header.raw_len; i++)
			fprintf(file, "%02x", content[i]);
		fputc('\n', file);
	}
	else
		fprintf(file, "- - - - - -\n");
	fclose(file);
	free(content);
	written++;
}

/* Contents that are encoded with the golden model, and how they are then spoilt */
static const struct
{
	const char *name;
	NbmfStatus status;
	NbmfKind kind;
	Pattern pattern;
	size_t len;
	size_t cut;  /* bytes taken off the end */
	size_t flip; /* byte that is changed; 0: none */
} neural[] = {
	{"neural-text-empty", NBMF_OK, NBMF_KIND_TEXT, PATTERN_SAME, 0, 0, 0},
	{"neural-text-1", NBMF_OK, NBMF_KIND_TEXT, PATTERN_SAME, 1, 0, 0},
	{"neural-json-300", NBMF_OK, NBMF_KIND_JSON, PATTERN_JSON, 300, 0, 0},
	{"neural-text-log-1000", NBMF_OK, NBMF_KIND_TEXT, PATTERN_LOG, 1000, 0, 0},
	{"neural-bytea-noise-512", NBMF_OK, NBMF_KIND_BYTEA, PATTERN_NOISE, 512, 0, 0},
	{"neural-vector-256", NBMF_OK, NBMF_KIND_VECTOR, PATTERN_FLOATS, 256, 0, 0},
	{"neural-text-words-16383", NBMF_OK, NBMF_KIND_TEXT, PATTERN_WORDS, 16383, 0, 0},
	{"neural-long-log-16384", NBMF_OK, NBMF_KIND_TEXT, PATTERN_LOG, 16384, 0, 0},
	{"neural-long-mixed-20000", NBMF_OK, NBMF_KIND_TEXT, PATTERN_MIXED, 20000, 0, 0},
	{"neural-object", NBMF_ERR_OBJECT, NBMF_KIND_JSON, PATTERN_JSON, 300, 0, 1},
	{"neural-checksum", NBMF_ERR_CHECKSUM, NBMF_KIND_JSON, PATTERN_JSON, 300, 0, 2},
	{"neural-vector-odd", NBMF_ERR_CONTENT, NBMF_KIND_VECTOR, PATTERN_FLOATS, 255, 0, 0},
	{"neural-cut", NBMF_ERR_PAYLOAD, NBMF_KIND_JSON, PATTERN_JSON, 300, 80, 0},
	{"neural-header-cut", NBMF_ERR_TRUNCATED, NBMF_KIND_TEXT, PATTERN_SAME, 0, 3, 0},
	{"neural-long-cut", NBMF_ERR_PAYLOAD, NBMF_KIND_TEXT, PATTERN_MIXED, 20000, 1000, 0},
	{"neural-long-checksum", NBMF_ERR_CHECKSUM, NBMF_KIND_TEXT, PATTERN_MIXED, 20000, 0, 6},
};

static void
write_neural(const char *dir)
{
	const NbmfModel *model = golden_model(dir);
	void *state = calloc(1, nbmf_neural_state_size());

	if (model == NULL)
	{
		NbmfSample sample = neural_sample();
		NbmfModelParams params = {.slots = 0};
		void *stored;
		size_t len;
		char path[1000];
		FILE *file;

		snprintf(path, sizeof(path), "%s/golden-model.nbmm", dir);
		file = fopen(path, "wb");
		if (nbmf_model_train(&sample, &params, &stored, &len) != NBMF_OK || file == NULL ||
			fwrite(stored, 1, len, file) != len || fclose(file) != 0)
		{
			perror(path);
			exit(2);
		}
		free(stored);
		model = golden_model(dir);
	}
	for (size_t i = 0; i < sizeof(neural) / sizeof(neural[0]); i++)
	{
		bool is_short = neural[i].len <= NBMF_NEURAL_SHORT_MAX;
		uint8_t *content = pattern_alloc(neural[i].pattern, neural[i].len);
		size_t cap = 2 * neural[i].len + 100;
		uint8_t *frame = exact_alloc(cap);
		size_t payload_len = 0;
		NbmfFrame header = {.kind = neural[i].kind,
							.codec = is_short ? NBMF_CODEC_NEURAL : NBMF_CODEC_NEURAL_LONG,
							.object = model->id,
							.raw_len = neural[i].len,
							.checksum = nbmf_checksum(content, neural[i].len)};
		size_t header_len = nbmf_frame_header_len(header.codec, header.object, header.raw_len);

		nbmf_frame_write_header(frame, &header);
		if (nbmf_neural_encode(state, model->image, is_short ? NBMF_NEURAL_SHORT : NBMF_NEURAL_LONG,
							   NULL, 0, content, neural[i].len, frame + header_len,
							   cap - header_len, &payload_len) != NBMF_OK)
			trouble++;
		if (neural[i].flip > 0)
			frame[neural[i].flip] ^= 0x20;
		if (neural[i].cut > header_len + payload_len)
			trouble++;
		else
			write_frame(dir, neural[i].name, neural[i].status, frame,
						header_len + payload_len - neural[i].cut, pattern_name(neural[i].pattern));
		free(frame);
		free(content);
	}
	free(state);
}

int
golden_write(const char *dir)
{
	for (size_t i = 0; i < sizeof(encoded) / sizeof(encoded[0]); i++)
	{
		NbmfEncodeParams params = {
			.kind = encoded[i].kind, .tier = encoded[i].tier, .level = encoded[i].level};
		uint8_t *content = pattern_alloc(encoded[i].pattern, encoded[i].len);
		size_t bound = nbmf_encode_bound(encoded[i].len);
		uint8_t *frame = exact_alloc(bound);
		size_t frame_len;

		if (nbmf_encode(&ws, &params, content, encoded[i].len, frame, bound, &frame_len) != NBMF_OK)
			trouble++;
		else
			write_frame(dir, encoded[i].name, NBMF_OK, frame, frame_len,
						pattern_name(encoded[i].pattern));
		free(frame);
		free(content);
	}
	for (size_t i = 0; i < sizeof(by_hand) / sizeof(by_hand[0]); i++)
	{
		NbmfFrame header = {.kind = by_hand[i].kind,
							.codec = by_hand[i].codec,
							.raw_len = by_hand[i].len,
							.checksum = nbmf_checksum(by_hand[i].text, strlen(by_hand[i].text))};
		size_t header_len = nbmf_frame_header_len(header.codec, header.object, header.raw_len);
		uint8_t frame[NBMF_FRAME_HEADER_MAX + sizeof(by_hand[i].payload)];

		nbmf_frame_write_header(frame, &header);
		memcpy(frame + header_len, by_hand[i].payload, by_hand[i].payload_len);
		write_frame(dir, by_hand[i].name, by_hand[i].status, frame,
					header_len + by_hand[i].payload_len, NULL);
	}
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		write_frame(dir, headers[i].name, headers[i].status, headers[i].bytes, headers[i].len,
					NULL);
	write_neural(dir);
	nbmf_workspace_free(&ws);
	printf("%d files added, %d do not come out as expected\n", written, trouble);
	return trouble > 0 ? 1 : 0;
}
