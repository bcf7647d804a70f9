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
 */
#include "unit.h"

#include "crypto/crypto.h"

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
		status = nbmf_decode(&ws, NULL, frame, frame_len, content, header.raw_len, &header);
		if (status == NBMF_OK && strcmp(e->status, "ok") == 0)
			check_content(e, &header, content);
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
	tap_run("golden files", check_manifest);
	nbmf_workspace_free(&ws);
}
