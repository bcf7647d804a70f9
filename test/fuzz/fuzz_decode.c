/*
 * fuzz_decode.c
 *		Arbitrary bytes as a frame: parsed whole and as a slice, and decoded if
 *		the header is good, into memory of exactly the declared length.
 */
/* for MAP_ANONYMOUS */
#define _DEFAULT_SOURCE

#include "codec/codec.h"

#include "require.h"

#include <string.h>
#include <sys/mman.h>

/* Longer content is as legal, but makes the fuzzer slow */
#define CONTENT_LEN_MAX ((size_t) 4 << 20)

/* Inputs up to this length are put before memory that may not be read */
#define GUARDED_ROOM ((size_t) 1 << 16)

static NbmfWorkspace ws;

/*
 * libzstd is not instrumented, so the sanitizer does not see it read behind the
 * input: put it at the very end of readable memory.
 */
static const uint8_t *
guarded_copy(const uint8_t *data, size_t size)
{
	static uint8_t *end;

	if (size > GUARDED_ROOM)
		return data;
	if (end == NULL)
	{
		void *p = mmap(NULL, 2 * GUARDED_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
					   -1, 0);

		REQUIRE(p != MAP_FAILED);
		end = (uint8_t *) p + GUARDED_ROOM;
		REQUIRE(mprotect(end, GUARDED_ROOM, PROT_NONE) == 0);
	}
	if (size > 0)
		memcpy(end - size, data, size);
	return end - size;
}

static void
check_header(const NbmfFrame *header, size_t size)
{
	REQUIRE((unsigned) header->kind <= NBMF_KIND_VECTOR);
	REQUIRE((unsigned) header->tier <= NBMF_TIER_L3);
	REQUIRE((unsigned) header->codec <= NBMF_CODEC_DICT_BLOCKS ||
			nbmf_codec_has_model(header->codec));
	REQUIRE(header->header_len >= (header->complete ? 5 : 4) && header->header_len <= 15);
	REQUIRE(header->header_len ==
			nbmf_frame_header_len(header->codec, header->object, header->raw_len));
	REQUIRE(header->header_len + header->payload_len == size);
	REQUIRE(header->raw_len <= NBMF_CONTENT_MAX);
	if (header->codec == NBMF_CODEC_STORED)
		REQUIRE(header->raw_len == header->payload_len);
	else if (!nbmf_codec_has_model(header->codec))
		REQUIRE(header->raw_len <= nbmf_zstd_plausible_len(header->codec, header->payload_len));
	REQUIRE((header->object != 0) == (header->codec >= NBMF_CODEC_DICT));
	if (header->complete && header->kind == NBMF_KIND_VECTOR)
		REQUIRE(header->raw_len > 0 && header->raw_len % 4 == 0);
}

static bool
same_header(const NbmfFrame *a, const NbmfFrame *b)
{
	return a->kind == b->kind && a->tier == b->tier && a->codec == b->codec &&
		   a->object == b->object && a->checksum == b->checksum && a->raw_len == b->raw_len &&
		   a->header_len == b->header_len && a->payload_len == b->payload_len;
}

/*
 * A dictionary for whatever id the frame asks for.
 */
static const NbmfDict *
dictionary(uint32_t id)
{
	static uint8_t bytes[4096];
	static NbmfDict dict;

	if (id == 0)
		return NULL;
	if (dict.ddict == NULL)
	{
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t) ((uint8_t) "the dictionary of a fuzzer "[i % 27] + (i / 27) % 3);
		dict.bytes = bytes;
		dict.len = sizeof(bytes);
		REQUIRE(nbmf_dict_prepare_decode(&dict) == NBMF_OK);
	}
	dict.id = id;
	return &dict;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	NbmfFrame header;
	NbmfFrame other;
	NbmfStatus status = nbmf_frame_parse(data, size, size, &header);
	NbmfStatus decoded;
	const NbmfDict *dict;
	uint8_t again[NBMF_FRAME_HEADER_MAX];
	uint8_t *content;

	if (size > NBMF_FRAME_HEADER_MAX)
	{
		uint8_t *slice = malloc(NBMF_FRAME_HEADER_MAX);

		memcpy(slice, data, NBMF_FRAME_HEADER_MAX);
		REQUIRE(nbmf_frame_parse(slice, NBMF_FRAME_HEADER_MAX, size, &other) == status);
		REQUIRE(same_header(&header, &other));
		free(slice);
	}
	if (status != NBMF_OK)
	{
		REQUIRE(nbmf_decode(&ws, NULL, data, size, NULL, 0, &other) == status);
		return 0;
	}
	check_header(&header, size);

	/* a header has one form only */
	nbmf_frame_write_header(again, &header);
	REQUIRE(memcmp(again, data, header.header_len) == 0);

	/* fuzz_neural.c has a model; here there is none */
	if (nbmf_codec_has_model(header.codec))
	{
		content = malloc(header.raw_len);
		REQUIRE(nbmf_decode(&ws, NULL, data, size, content, header.raw_len, &other) ==
				NBMF_ERR_OBJECT);
		free(content);
		return 0;
	}
	if (header.raw_len > CONTENT_LEN_MAX)
		return 0;
	dict = dictionary(header.object);
	content = malloc(header.raw_len);
	data = guarded_copy(data, size);
	if (header.raw_len > 0)
		REQUIRE(nbmf_decode(&ws, &(NbmfObjects){.dict = dict}, data, size, content,
							header.raw_len - 1, &other) == NBMF_ERR_SPACE);
	decoded =
		nbmf_decode(&ws, &(NbmfObjects){.dict = dict}, data, size, content, header.raw_len, &other);
	REQUIRE(same_header(&header, &other));
	REQUIRE(decoded == NBMF_OK || decoded == NBMF_ERR_PAYLOAD || decoded == NBMF_ERR_LENGTH ||
			decoded == NBMF_ERR_CHECKSUM);
	if (decoded == NBMF_OK || decoded == NBMF_ERR_CHECKSUM)
		REQUIRE((nbmf_checksum(content, header.raw_len) == header.checksum) ==
				(decoded == NBMF_OK));
	free(content);
	return 0;
}
