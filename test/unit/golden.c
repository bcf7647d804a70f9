/*
 * golden.c
 *		Frames in files, and what they must decode to, for ever.
 *
 * test/golden/MANIFEST has a line for each file, of fields set apart by spaces:
 *
 *	FILE STATUS KIND TIER CODEC LENGTH SHA256 CONTENT
 *
 * STATUS is "ok", or the error with which the frame must be refused; the other
 * fields are then "-".  CONTENT is the name of a pattern, which gives LENGTH
 * bytes, or "=" and the content in hex; SHA256 is of the content, so that a
 * change of a pattern does not go unnoticed.  Lines with # are comments.
 *
 * Frames with a model need the one of golden-model.nbmm, which was trained on the
 * documents of neural_sample.h; training on them again must give the same image,
 * and encoding a frame's content again the same payload, on every machine.
 */
#include "unit.h"

#include "crypto/crypto.h"

#include "neural_sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No golden file is longer */
#define FILE_LEN_MAX 100000

typedef struct Entry
{
	char file[80];
	char status[16];
	char kind[8];
	char tier[8];
	char codec[16];
	char len[16];
	char sha256[80];
	char content[200];
} Entry;

static const char *golden_dir;
static NbmfWorkspace ws;
static NbmfModel model;

static const char *const status_names[] = {"ok",      "truncated", "reserved",    "length",
										   "payload", "checksum",  "content",     "too-large",
										   "space",   "memory",    "interrupted", "object"};

const char *
golden_status_name(NbmfStatus status)
{
	return status_names[status];
}

static uint8_t *
read_frame(const char *name, size_t *len)
{
	char path[1000];
	uint8_t buffer[FILE_LEN_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", golden_dir, name);
	file = fopen(path, "rb");
	if (!CHECK(file != NULL, "%s cannot be opened", path))
		return NULL;
	*len = fread(buffer, 1, sizeof(buffer), file);
	fclose(file);
	return exact_copy(buffer, *len);
}

static uint8_t *
expected_content(const Entry *e, size_t len)
{
	Pattern pattern;
	uint8_t *content;

	if (e->content[0] == '=')
	{
		if (!CHECK(strlen(e->content) == 1 + 2 * len, "%s: content in hex", e->file))
			return NULL;
		content = exact_alloc(len);
		for (size_t i = 0; i < len; i++)
		{
			char digits[3] = {e->content[1 + 2 * i], e->content[2 + 2 * i], '\0'};

			content[i] = (uint8_t) strtoul(digits, NULL, 16);
		}
		return content;
	}
	if (!CHECK(pattern_by_name(e->content, &pattern), "%s: pattern %s", e->file, e->content))
		return NULL;
	return pattern_alloc(pattern, len);
}

static void
check_content(const Entry *e, const NbmfFrame *header, const uint8_t *content)
{
	uint8_t *expected;
	uint8_t digest[NBMF_SHA256_LEN];
	char hex[2 * NBMF_SHA256_LEN + 1] = "";
	size_t len = (size_t) strtoul(e->len, NULL, 10);

	if (!CHECK(header->raw_len == len && strcmp(nbmf_kind_name(header->kind), e->kind) == 0 &&
				   strcmp(nbmf_tier_name(header->tier), e->tier) == 0 &&
				   strcmp(nbmf_codec_name(header->codec), e->codec) == 0,
			   "%s: header", e->file))
		return;
	expected = expected_content(e, len);
	if (expected != NULL)
		CHECK(len == 0 || memcmp(content, expected, len) == 0, "%s: content", e->file);
	free(expected);
	CHECK(nbmf_sha256(content, len, digest), "no digest");
	for (size_t i = 0; i < NBMF_SHA256_LEN; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	CHECK(strcmp(hex, e->sha256) == 0, "%s: digest %s", e->file, hex);
}

/*
 * The golden model; its id is 7.
 */
const NbmfModel *
golden_model(const char *dir)
{
	static uint8_t stored[FILE_LEN_MAX];
	char path[1000];
	size_t len;
	FILE *file;

	if (model.image != NULL)
		return &model;
	snprintf(path, sizeof(path), "%s/golden-model.nbmm", dir);
	file = fopen(path, "rb");
	if (file == NULL)
		return NULL;
	len = fread(stored, 1, sizeof(stored), file);
	fclose(file);
	return neural_model_open(stored, len, &model) ? &model : NULL;
}

static void
check_model(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params = {.slots = 0};
	void *stored = NULL;
	size_t len = 0;
	NbmfModel again = {0};

	if (!CHECK(golden_model(golden_dir) != NULL, "no model") ||
		!CHECK(nbmf_model_train(&sample, &params, &stored, &len) == NBMF_OK &&
				   neural_model_open(stored, len, &again),
			   "training"))
		return;
	CHECK(again.image_len == model.image_len &&
			  memcmp(again.image, model.image, model.image_len) == 0,
		  "another image");
	neural_model_close(&again);
	free(stored);
}

/* The same content gives the same payload again */
static void
check_neural(const Entry *e, const NbmfFrame *header, const uint8_t *content, const uint8_t *frame)
{
	void *state = calloc(1, nbmf_neural_state_size());
	uint8_t *payload = exact_alloc(header->payload_len);
	size_t len = 0;

	for (int coder = 0; coder < NBMF_NEURAL_CODERS; coder++)
	{
		nbmf_neural_limit = (NbmfNeuralCoder) coder;
		CHECK(nbmf_neural_encode(
				  state, model.image,
				  header->codec == NBMF_CODEC_NEURAL ? NBMF_NEURAL_SHORT : NBMF_NEURAL_LONG, NULL,
				  0, content, header->raw_len, payload, header->payload_len, &len) == NBMF_OK &&
				  len == header->payload_len &&
				  memcmp(payload, frame + header->header_len, len) == 0,
			  "%s: another payload", e->file);
	}
	nbmf_neural_limit = NBMF_NEURAL_WIDE;
	free(payload);
	free(state);
}

static void
check_entry(const Entry *e)
{
	size_t frame_len = 0;
	uint8_t *frame = read_frame(e->file, &frame_len);
	uint8_t *content;
	NbmfFrame header;
	NbmfStatus status;

	if (frame == NULL)
		return;
	status = nbmf_frame_parse(frame, frame_len, frame_len, &header);
	/* a frame that is refused for its header is refused before anything else */
	if (status == NBMF_OK)
	{
		content = exact_alloc(header.raw_len);
		status = nbmf_decode(
			&ws, nbmf_codec_has_model(header.codec) ? &(NbmfObjects){.model = &model} : NULL, frame,
			frame_len, content, header.raw_len, &header);
		if (status == NBMF_OK && strcmp(e->status, "ok") == 0)
		{
			check_content(e, &header, content);
			if (nbmf_codec_has_model(header.codec))
				check_neural(e, &header, content, frame);
		}
		free(content);
	}
	CHECK(strcmp(golden_status_name(status), e->status) == 0, "%s: %s instead of %s", e->file,
		  golden_status_name(status), e->status);
	free(frame);
}

static void
check_manifest(void)
{
	char path[1000];
	char line[1000];
	FILE *manifest;
	int valid = 0;
	int corrupt = 0;

	snprintf(path, sizeof(path), "%s/MANIFEST", golden_dir);
	manifest = fopen(path, "r");
	if (!CHECK(manifest != NULL, "%s cannot be opened", path))
		return;
	while (fgets(line, sizeof(line), manifest) != NULL)
	{
		Entry e;

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!CHECK(sscanf(line, "%79s %15s %7s %7s %15s %15s %79s %199s", e.file, e.status, e.kind,
						  e.tier, e.codec, e.len, e.sha256, e.content) == 8,
				   "line: %s", line))
			continue;
		check_entry(&e);
		if (strcmp(e.status, "ok") == 0)
			valid++;
		else
			corrupt++;
	}
	fclose(manifest);
	/* files are added, never taken away */
	CHECK(valid >= 20 && corrupt >= 25, "%d valid and %d corrupt files", valid, corrupt);
}

void
test_golden(const char *dir)
{
	golden_dir = dir;
	tap_run("golden model", check_model);
	tap_run("golden files", check_manifest);
	neural_model_close(&model);
	nbmf_workspace_free(&ws);
}
