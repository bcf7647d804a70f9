/*
 * test_dict.c
 *		Dictionaries: frames that refer to one, and training.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTS 400

/* Records that have much in common */
static size_t
make_record(char *dst, size_t cap, unsigned i)
{
	uint64_t state = i * 7919 + 1;
	int len =
		snprintf(dst, cap,
				 "{\"role\": \"%s\", \"thread\": \"%08x\", \"model\": \"assistant-large-v2\", "
				 "\"content\": \"entry %u of the log says %llu\", \"finish_reason\": \"stop\"}",
				 i % 2 ? "user" : "assistant", (unsigned) random_next(&state), i,
				 (unsigned long long) random_next(&state));

	return (size_t) len;
}

typedef struct Records
{
	uint8_t *bytes;
	size_t sizes[DOCUMENTS];
	NbmfSample sample;
} Records;

static void
make_records(Records *records)
{
	size_t len = 0;

	records->bytes = malloc(DOCUMENTS * 300);
	for (unsigned i = 0; i < DOCUMENTS; i++)
	{
		records->sizes[i] = make_record((char *) records->bytes + len, 300, i);
		len += records->sizes[i];
	}
	records->sample.bytes = records->bytes;
	records->sample.sizes = records->sizes;
	records->sample.count = DOCUMENTS;
}

static size_t
encode_with(NbmfWorkspace *ws, const NbmfDict *dict, int level, const void *content, size_t len,
			uint8_t *frame)
{
	NbmfEncodeParams params = {.kind = NBMF_KIND_JSON, .level = level, .dict = dict};
	size_t frame_len = 0;

	CHECK(nbmf_encode(ws, &params, content, len, frame, nbmf_encode_bound(len), &frame_len) ==
			  NBMF_OK,
		  "encoding %zu bytes", len);
	return frame_len;
}

static void
round_trips(void)
{
	static const uint32_t ids[] = {1, 127, 128, 16511, 16512, 2113664, NBMF_OBJECT_MAX};
	static const size_t lens[] = {16, 100, 1000, 65536, 131072, 131073, 2000000};
	uint8_t *bytes = pattern_alloc(PATTERN_JSON, 60000);
	NbmfWorkspace ws = {0};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
	{
		NbmfDict dict = {.id = ids[i], .bytes = bytes, .len = 60000};

		CHECK(nbmf_dict_prepare_encode(&dict, 3) == NBMF_OK &&
				  nbmf_dict_prepare_decode(&dict) == NBMF_OK && nbmf_dict_memory(&dict) > 60000,
			  "id %u", ids[i]);
		for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
		{
			uint8_t *content = pattern_alloc(PATTERN_JSON, lens[l]);
			uint8_t *frame = exact_alloc(nbmf_encode_bound(lens[l]));
			uint8_t *decoded = exact_alloc(lens[l]);
			size_t plain = encode_with(&ws, NULL, 3, content, lens[l], frame);
			size_t len = encode_with(&ws, &dict, 3, content, lens[l], frame);
			NbmfFrame header;

			CHECK(nbmf_frame_parse(frame, len, len, &header) == NBMF_OK &&
					  header.object == (header.codec == NBMF_CODEC_STORED ? 0 : ids[i]),
				  "id %u: object %u", ids[i], header.object);
			CHECK(header.codec == NBMF_CODEC_STORED || header.codec >= NBMF_CODEC_DICT, "codec %d",
				  (int) header.codec);
			CHECK(lens[l] < 100 || lens[l] > 60000 || len < plain, "%zu bytes: %zu, plain %zu",
				  lens[l], len, plain);
			CHECK(nbmf_decode(&ws, header.object != 0 ? &(NbmfObjects){.dict = &dict} : NULL, frame,
							  len, decoded, lens[l], &header) == NBMF_OK &&
					  memcmp(decoded, content, lens[l]) == 0,
				  "id %u, %zu bytes", ids[i], lens[l]);
			free(content);
			free(frame);
			free(decoded);
		}
		nbmf_dict_free(&dict);
	}
	nbmf_workspace_free(&ws);
	free(bytes);
}

/* The wrong dictionary, none, or one too many: an error, never other content */
static void
wrong_dictionary(void)
{
	uint8_t *bytes = pattern_alloc(PATTERN_JSON, 20000);
	uint8_t *other = pattern_alloc(PATTERN_WORDS, 20000);
	NbmfDict dict = {.id = 7, .bytes = bytes, .len = 20000};
	NbmfDict same_id = {.id = 7, .bytes = other, .len = 20000};
	NbmfDict other_id = {.id = 8, .bytes = bytes, .len = 20000};
	uint8_t *content = pattern_alloc(PATTERN_JSON, 900);
	uint8_t frame[1000];
	uint8_t decoded[900];
	NbmfWorkspace ws = {0};
	NbmfFrame header;
	NbmfStatus status;
	size_t len;

	CHECK(nbmf_dict_prepare_encode(&dict, 3) == NBMF_OK, "encode");
	CHECK(nbmf_dict_prepare_decode(&dict) == NBMF_OK, "decode");
	CHECK(nbmf_dict_prepare_decode(&same_id) == NBMF_OK, "decode");
	CHECK(nbmf_dict_prepare_decode(&other_id) == NBMF_OK, "decode");
	len = encode_with(&ws, &dict, 3, content, 900, frame);
	CHECK(nbmf_decode(&ws, NULL, frame, len, decoded, 900, &header) == NBMF_ERR_OBJECT, "none");
	CHECK(nbmf_decode(&ws, &(NbmfObjects){.dict = &other_id}, frame, len, decoded, 900, &header) ==
			  NBMF_ERR_OBJECT,
		  "other id");
	status = nbmf_decode(&ws, &(NbmfObjects){.dict = &same_id}, frame, len, decoded, 900, &header);
	CHECK(status == NBMF_ERR_CHECKSUM || status == NBMF_ERR_PAYLOAD, "same id: %d", (int) status);

	/* every bit */
	for (size_t bit = 0; bit < len * 8; bit++)
	{
		uint8_t damaged[1000];

		memcpy(damaged, frame, len);
		damaged[bit / 8] ^= (uint8_t) (1 << bit % 8);
		if (nbmf_frame_parse(damaged, len, len, &header) != NBMF_OK || header.raw_len > 900)
			continue;
		status = nbmf_decode(&ws, header.object != 0 ? &(NbmfObjects){.dict = &dict} : NULL,
							 damaged, len, decoded, 900, &header);
		CHECK(status != NBMF_OK || (header.raw_len == 900 && memcmp(decoded, content, 900) == 0),
			  "bit %zu gives other content", bit);
	}

	/* a dictionary that was used leaves no trace in the next frame */
	len = encode_with(&ws, NULL, 3, content, 900, frame);
	CHECK(nbmf_decode(&ws, &(NbmfObjects){.dict = &dict}, frame, len, decoded, 900, &header) ==
			  NBMF_ERR_OBJECT,
		  "too many");
	CHECK(nbmf_decode(&ws, NULL, frame, len, decoded, 900, &header) == NBMF_OK &&
			  header.object == 0,
		  "plain again");

	nbmf_dict_free(&dict);
	nbmf_dict_free(&same_id);
	nbmf_dict_free(&other_id);
	nbmf_workspace_free(&ws);
	free(bytes);
	free(other);
	free(content);
}

/* A frame that every later version must read */
static void
golden(void)
{
	static const uint8_t frame[] = {
		0x45, 0x80, 0xac, 0x80, 0x48, 0x7e, 0x77, 0x54, 0xb4, 0x00, 0x0a, 0x40, 0x00, 0x5f,
		0xab, 0x50, 0x27, 0xdd, 0x48, 0xfd, 0xf0, 0xeb, 0x39, 0x84, 0x81, 0x4c, 0xbc, 0x06,
		0x8c, 0x93, 0x96, 0xba, 0xad, 0x73, 0xdd, 0xa4, 0x06, 0xe5, 0xf0, 0xc2, 0xa4, 0x2c};
	uint8_t *bytes = pattern_alloc(PATTERN_WORDS, 20000);
	NbmfDict dict = {.id = 300, .bytes = bytes, .len = 20000};
	NbmfWorkspace ws = {0};
	NbmfFrame header;
	uint8_t decoded[200];

	CHECK(nbmf_dict_prepare_decode(&dict) == NBMF_OK, "prepare");
	CHECK(nbmf_decode(&ws, &(NbmfObjects){.dict = &dict}, frame, sizeof(frame), decoded, 200,
					  &header) == NBMF_OK,
		  "decode");
	CHECK(header.object == 300 && header.raw_len == 200 && header.tier == NBMF_TIER_L2 &&
			  header.codec == NBMF_CODEC_DICT_BLOCK,
		  "header: object %u", header.object);
	CHECK(memcmp(decoded, bytes + 500, 100) == 0 && memcmp(decoded + 100, bytes + 9000, 100) == 0,
		  "content");
	nbmf_dict_free(&dict);
	nbmf_workspace_free(&ws);
	free(bytes);
}

static void
objects_in_headers(void)
{
	uint8_t frame[40] = {NBMF_CODEC_DICT_BLOCK};
	NbmfFrame header;

	/* id 0, and ids over the limit */
	CHECK(nbmf_frame_parse(frame, 40, 40, &header) == NBMF_ERR_OBJECT, "id 0");
	memcpy(frame + 1, "\xf0\x6f\xdf\xbf\x80\x10", 6);
	CHECK(nbmf_frame_parse(frame, 40, 40, &header) == NBMF_ERR_OBJECT, "id 2^31");
	memcpy(frame + 1, "\xf0\x6f\xdf\xbf\x7f\x10", 6);
	CHECK(nbmf_frame_parse(frame, 40, 40, &header) == NBMF_OK && header.object == NBMF_OBJECT_MAX &&
			  header.raw_len == 16 && header.header_len == 11,
		  "largest id: %u", header.object);
	for (size_t len = 1; len < 11; len++)
		CHECK(nbmf_frame_parse(frame, len, len, &header) == NBMF_ERR_TRUNCATED, "%zu of 11", len);
}

static void
training(void)
{
	Records records;
	NbmfWorkspace ws = {0};
	NbmfEncodeParams params = {.kind = NBMF_KIND_JSON, .level = 3};
	NbmfDict dict = {.id = 3};
	NbmfSample none = {NULL, NULL, 0};
	uint8_t *bytes = malloc(16384);
	uint64_t plain = 0;
	uint64_t with = 0;
	double squares = 0;
	size_t len = 0;

	make_records(&records);
	CHECK(nbmf_dict_train(&none, 128, 6, 3, bytes, 16384, &len) == NBMF_ERR_CONTENT, "nothing");
	CHECK(nbmf_dict_train(&records.sample, 128, 6, 3, bytes, 16384, &len) == NBMF_OK && len > 256 &&
			  len <= 16384,
		  "a dictionary of %zu bytes", len);
	dict.bytes = bytes;
	dict.len = len;
	CHECK(nbmf_dict_prepare_encode(&dict, 3) == NBMF_OK, "encode");
	CHECK(nbmf_sample_cost(&ws, &params, &records.sample, &plain, &squares) == NBMF_OK, "plain");
	CHECK(squares >= (double) plain * (double) plain / DOCUMENTS, "squares %g", squares);
	params.dict = &dict;
	CHECK(nbmf_sample_cost(&ws, &params, &records.sample, &with, &squares) == NBMF_OK, "with");
	CHECK(with * 2 < plain, "%u bytes with, %u without", (unsigned) with, (unsigned) plain);
	nbmf_dict_free(&dict);
	nbmf_workspace_free(&ws);
	free(records.bytes);
	free(bytes);
}

void
test_dict(bool quick)
{
	(void) quick;
	tap_run("dictionary: round trips", round_trips);
	tap_run("dictionary: the wrong one", wrong_dictionary);
	tap_run("dictionary: golden frame", golden);
	tap_run("dictionary: ids in headers", objects_in_headers);
	tap_run("dictionary: training", training);
}
