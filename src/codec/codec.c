/*
 * codec.c
 *		Encoding content to a frame and decoding it: the choice of the codec,
 *		the checksum, and the names of things.
 *
 * The rule of the choice: no codec may make a value larger than the one before
 * it in the ladder, so compressed payloads are kept only when they are smaller
 * than the content, header included.
 */
#include "codec/codec.h"

#include <stdlib.h>
#include <string.h>

/*
 * Content shorter than this is stored: zstd's smallest literals and sequences
 * sections leave nothing to gain, and trying costs microseconds.
 */
#define COMPRESS_LEN_MIN 16

/*
 * Room that nbmf_encode needs for content of raw_len bytes: a stored frame, and
 * as much more as a compressed attempt may write before it is given up.
 */
size_t
nbmf_encode_bound(size_t raw_len)
{
	return nbmf_frame_header_len(NBMF_CODEC_DICT, NBMF_OBJECT_MAX, raw_len) +
		   nbmf_zstd_encode_room(raw_len);
}

bool
nbmf_codec_is_neural(NbmfCodec codec)
{
	return codec == NBMF_CODEC_NEURAL;
}

/*
 * Have the model try to make a smaller frame than the one of *frame_len bytes
 * that is in frame; what it makes is decoded and compared before it is kept.
 */
static NbmfStatus
try_model(NbmfWorkspace *ws, const NbmfEncodeParams *params, const void *content, size_t len,
		  NbmfFrame *header, uint8_t *frame, size_t *frame_len)
{
	size_t header_len = nbmf_frame_header_len(NBMF_CODEC_NEURAL, params->model->id, len);
	uint8_t *payload;
	size_t payload_len;
	size_t check_len;
	size_t cap;
	NbmfStatus status;

	if (len == 0 || len > NBMF_NEURAL_SHORT_MAX || *frame_len <= header_len)
		return NBMF_OK;
	if (ws->neural == NULL)
		ws->neural = calloc(1, nbmf_neural_state_size());
	if (ws->check == NULL)
		ws->check = malloc(2 * NBMF_NEURAL_SHORT_MAX);
	if (ws->neural == NULL || ws->check == NULL)
		return NBMF_ERR_MEMORY;
	payload = ws->check + NBMF_NEURAL_SHORT_MAX;
	cap = *frame_len - header_len - 1;
	if (cap > NBMF_NEURAL_SHORT_MAX)
		cap = NBMF_NEURAL_SHORT_MAX;
	status = nbmf_neural_encode(ws->neural, params->model->image, NBMF_NEURAL_SHORT, NULL, 0,
								content, len, payload, cap, &payload_len);
	if (status == NBMF_ERR_SPACE)
		return NBMF_OK;
	if (status == NBMF_OK)
		status =
			nbmf_neural_decode(ws->neural, params->model->image, NBMF_NEURAL_SHORT, NULL, 0,
							   payload, payload_len, ws->check, NBMF_NEURAL_SHORT_MAX, &check_len);
	if (status != NBMF_OK || check_len != len || memcmp(ws->check, content, len) != 0)
		return NBMF_OK;
	header->codec = NBMF_CODEC_NEURAL;
	header->object = params->model->id;
	header->payload_len = payload_len;
	nbmf_frame_write_header(frame, header);
	memcpy(frame + header_len, payload, payload_len);
	*frame_len = header_len + payload_len;
	return NBMF_OK;
}

/*
 * Encode len bytes of content to a frame.
 *
 * cap must be at least nbmf_encode_bound(len).  Errors: NBMF_ERR_TOO_LARGE,
 * NBMF_ERR_SPACE, NBMF_ERR_MEMORY, NBMF_ERR_INTERRUPTED.
 */
NbmfStatus
nbmf_encode(NbmfWorkspace *ws, const NbmfEncodeParams *params, const void *content, size_t len,
			void *frame, size_t cap, size_t *frame_len)
{
	NbmfFrame header = {.kind = params->kind,
						.tier = params->tier,
						.codec = NBMF_CODEC_STORED,
						.checksum = nbmf_checksum(content, len),
						.raw_len = len,
						.payload_len = len};
	uint32_t object = params->dict != NULL ? params->dict->id : 0;

	if (len > NBMF_CONTENT_MAX)
		return NBMF_ERR_TOO_LARGE;
	if (cap < nbmf_encode_bound(len))
		return NBMF_ERR_SPACE;

	if (len >= COMPRESS_LEN_MIN)
	{
		size_t header_len = nbmf_frame_header_len(NBMF_CODEC_ZSTD, object, len);
		size_t stored_len = nbmf_frame_header_len(NBMF_CODEC_STORED, 0, len) + len;
		NbmfStatus status;

		status = nbmf_zstd_encode(ws, params, content, len, (uint8_t *) frame + header_len,
								  nbmf_zstd_encode_room(len), &header.codec, &header.payload_len);
		if (status != NBMF_OK && status != NBMF_ERR_SPACE)
			return status;
		if (status == NBMF_OK && header_len + header.payload_len < stored_len)
			header.object = object;
		else
		{
			header.codec = NBMF_CODEC_STORED;
			header.payload_len = len;
		}
	}

	header.header_len = nbmf_frame_header_len(header.codec, header.object, len);
	nbmf_frame_write_header(frame, &header);
	if (header.codec == NBMF_CODEC_STORED && len > 0)
		memcpy((uint8_t *) frame + header.header_len, content, len);
	*frame_len = header.header_len + header.payload_len;
	return params->model != NULL ? try_model(ws, params, content, len, &header, frame, frame_len)
								 : NBMF_OK;
}

/*
 * Decode a frame to content[0 .. header->raw_len).
 *
 * cap must be at least that; callers learn it from nbmf_frame_parse, which
 * has also found it plausible, and which says in header->object which
 * dictionary or model must be given, prepared for decoding.  Nothing is
 * promised about content's bytes when the result is not NBMF_OK; when it is,
 * header says everything.
 */
NbmfStatus
nbmf_decode(NbmfWorkspace *ws, const NbmfDict *dict, const NbmfModel *model, const void *frame,
			size_t frame_len, void *content, size_t cap, NbmfFrame *header)
{
	NbmfStatus status = nbmf_frame_parse(frame, frame_len, frame_len, header);
	bool neural = nbmf_codec_is_neural(header->codec);
	uint32_t checksum;
	uint32_t object;
	const uint8_t *payload;

	if (status != NBMF_OK)
		return status;
	if (cap < header->raw_len)
		return NBMF_ERR_SPACE;
	object = neural ? (model != NULL ? model->id : 0) : (dict != NULL ? dict->id : 0);
	if (header->object != object)
		return NBMF_ERR_OBJECT;

	payload = (const uint8_t *) frame + header->header_len;
	if (neural)
	{
		if (ws->neural == NULL)
			ws->neural = calloc(1, nbmf_neural_state_size());
		if (ws->neural == NULL)
			return NBMF_ERR_MEMORY;
		status = nbmf_neural_decode(ws->neural, model->image, NBMF_NEURAL_SHORT, NULL, 0, payload,
									header->payload_len, content, cap, &header->raw_len);
	}
	else if (header->codec != NBMF_CODEC_STORED)
		status = nbmf_zstd_decode(ws, header->codec, dict, payload, header->payload_len, content,
								  header->raw_len);
	else if (header->raw_len > 0)
		memcpy(content, payload, header->raw_len);
	if (status != NBMF_OK)
		return status;
	checksum = nbmf_checksum(content, header->raw_len);
	if ((header->raw_len_known ? checksum : checksum & 0xffff) != header->checksum)
		return NBMF_ERR_CHECKSUM;
	header->checksum = checksum;
	header->raw_len_known = true;
	if (header->kind == NBMF_KIND_VECTOR && header->raw_len % 4 != 0)
		return NBMF_ERR_CONTENT;
	return NBMF_OK;
}

/*
 * What went wrong, as a sentence for an error's detail.
 */
const char *
nbmf_status_text(NbmfStatus status)
{
	switch (status)
	{
		case NBMF_OK:
			return "No error.";
		case NBMF_ERR_TRUNCATED:
			return "The value ends inside its header.";
		case NBMF_ERR_RESERVED:
			return "The value uses a codec or flag that this version does not know.";
		case NBMF_ERR_LENGTH:
			return "The declared length does not fit the payload.";
		case NBMF_ERR_OBJECT:
			return "The shared object that the value needs is not there.";
		case NBMF_ERR_PAYLOAD:
			return "The payload does not decode.";
		case NBMF_ERR_CHECKSUM:
			return "The content does not match its checksum.";
		case NBMF_ERR_CONTENT:
			return "The content cannot be of the declared kind.";
		case NBMF_ERR_TOO_LARGE:
			return "The content is too large.";
		case NBMF_ERR_SPACE:
			return "The buffer is too small.";
		case NBMF_ERR_MEMORY:
			return "Out of memory.";
		case NBMF_ERR_INTERRUPTED:
			return "Interrupted.";
	}
	return "Unknown error.";
}

const char *
nbmf_codec_name(NbmfCodec codec)
{
	switch (codec)
	{
		case NBMF_CODEC_STORED:
			return "stored";
		case NBMF_CODEC_ZSTD:
			return "zstd";
		case NBMF_CODEC_ZSTD_BLOCK:
			return "zstd_block";
		case NBMF_CODEC_ZSTD_BLOCKS:
			return "zstd_blocks";
		case NBMF_CODEC_DICT:
			return "dict";
		case NBMF_CODEC_DICT_BLOCK:
			return "dict_block";
		case NBMF_CODEC_DICT_BLOCKS:
			return "dict_blocks";
		case NBMF_CODEC_BASE:
			return "base";
		case NBMF_CODEC_BASE_BLOCK:
			return "base_block";
		case NBMF_CODEC_BASE_BLOCKS:
			return "base_blocks";
		case NBMF_CODEC_NEURAL:
			return "neural";
		case NBMF_CODEC_NEURAL_BASE:
			return "neural_base";
		case NBMF_CODEC_VECTOR:
			return "vector";
		case NBMF_CODEC_EXTENDED:
			break;
	}
	return "unknown";
}

const char *
nbmf_kind_name(NbmfKind kind)
{
	switch (kind)
	{
		case NBMF_KIND_TEXT:
			return "text";
		case NBMF_KIND_JSON:
			return "json";
		case NBMF_KIND_BYTEA:
			return "bytea";
		case NBMF_KIND_VECTOR:
			return "vector";
	}
	return "unknown";
}

const char *
nbmf_tier_name(NbmfTier tier)
{
	switch (tier)
	{
		case NBMF_TIER_L1:
			return "L1";
		case NBMF_TIER_L2:
			return "L2";
		case NBMF_TIER_L3:
			return "L3";
	}
	return "unknown";
}
