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
 * The neural codec's state, with room bytes behind it; NULL without memory.
 */
static void *
neural_state(NbmfWorkspace *ws, size_t room)
{
	if (ws->neural == NULL || ws->neural_room < room)
	{
		free(ws->neural);
		/* a state begins as zeros */
		ws->neural = calloc(1, nbmf_neural_state_size() + room);
		ws->neural_room = ws->neural != NULL ? room : 0;
	}
	return ws->neural;
}

/*
 * Try the model: if a frame shorter than *frame_len comes of it, and decodes to
 * the content, it takes the place of the one that is there.
 */
static NbmfStatus
try_neural(NbmfWorkspace *ws, const NbmfModel *model, const void *content, size_t len,
		   NbmfFrame *header, void *frame, size_t *frame_len)
{
	NbmfFrame better = *header;
	NbmfNeuralForm form = len <= NBMF_NEURAL_SHORT_MAX ? NBMF_NEURAL_SHORT : NBMF_NEURAL_LONG;
	NbmfStatus status;
	size_t payload_cap;
	size_t decoded_len = 0;
	void *state;
	uint8_t *payload;
	uint8_t *decoded;

	better.codec = form == NBMF_NEURAL_SHORT ? NBMF_CODEC_NEURAL : NBMF_CODEC_NEURAL_LONG;
	better.object = model->id;
	better.header_len = nbmf_frame_header_len(better.codec, better.object, len);
	if (better.header_len >= *frame_len)
		return NBMF_OK;
	payload_cap = *frame_len - better.header_len - 1;
	state = neural_state(ws, payload_cap + len + 1);
	if (state == NULL)
		return NBMF_ERR_MEMORY;
	payload = (uint8_t *) state + nbmf_neural_state_size();
	decoded = payload + payload_cap;
	status = nbmf_neural_encode(state, model->image, form, NULL, 0, content, len, payload,
								payload_cap, &better.payload_len);
	if (status == NBMF_OK)
		status = nbmf_neural_decode(state, model->image, form, NULL, 0, payload, better.payload_len,
									decoded, len, &decoded_len);
	/* what does not come back as it was is as good as too long */
	if (status != NBMF_OK || decoded_len != len || memcmp(decoded, content, len) != 0)
		return NBMF_OK;
	nbmf_frame_write_header(frame, &better);
	memcpy((uint8_t *) frame + better.header_len, payload, better.payload_len);
	*frame_len = better.header_len + better.payload_len;
	*header = better;
	return NBMF_OK;
}

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
						.payload_len = len,
						.complete = true};
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
	if (params->model != NULL && len > 0 && len <= NBMF_CHUNK)
		return try_neural(ws, params->model, content, len, &header, frame, frame_len);
	return NBMF_OK;
}

/*
 * Decode the payload of a frame with a model; sets header->raw_len.
 */
static NbmfStatus
decode_neural(NbmfWorkspace *ws, const NbmfModel *model, const uint8_t *payload, void *content,
			  NbmfFrame *header)
{
	void *state = neural_state(ws, 0);

	if (state == NULL)
		return NBMF_ERR_MEMORY;
	return nbmf_neural_decode(
		state, model->image,
		header->codec == NBMF_CODEC_NEURAL ? NBMF_NEURAL_SHORT : NBMF_NEURAL_LONG, NULL, 0, payload,
		header->payload_len, content, header->raw_len, &header->raw_len);
}

/*
 * Decode a frame to content[0 .. header->raw_len).
 *
 * cap must be at least that; callers learn it from nbmf_frame_parse, which
 * has also found it plausible, and which says in header->object which
 * dictionary (prepared for decoding) or model must be given; objects may be NULL
 * where it says 0.  Where the header did not say length and checksum, *header has
 * them afterwards.  Nothing is promised about content's bytes when the result is
 * not NBMF_OK.
 */
NbmfStatus
nbmf_decode(NbmfWorkspace *ws, const NbmfObjects *objects, const void *frame, size_t frame_len,
			void *content, size_t cap, NbmfFrame *header)
{
	NbmfStatus status = nbmf_frame_parse(frame, frame_len, frame_len, header);
	const NbmfDict *dict = objects != NULL ? objects->dict : NULL;
	const NbmfModel *model = objects != NULL ? objects->model : NULL;
	const uint8_t *payload;
	uint32_t object;
	uint32_t checksum;

	if (status != NBMF_OK)
		return status;
	if (cap < header->raw_len)
		return NBMF_ERR_SPACE;
	if (nbmf_codec_has_model(header->codec))
		object = model != NULL ? model->id : 0;
	else
		object = dict != NULL ? dict->id : 0;
	if (header->object != object)
		return NBMF_ERR_OBJECT;

	payload = (const uint8_t *) frame + header->header_len;
	if (nbmf_codec_has_model(header->codec))
		status = decode_neural(ws, model, payload, content, header);
	else if (header->codec != NBMF_CODEC_STORED)
		status = nbmf_zstd_decode(ws, header->codec, dict, payload, header->payload_len, content,
								  header->raw_len);
	else if (header->raw_len > 0)
		memcpy(content, payload, header->raw_len);
	if (status != NBMF_OK)
		return status;
	checksum = nbmf_checksum(content, header->raw_len);
	if (((checksum ^ header->checksum) & nbmf_frame_checksum_mask(header)) != 0)
		return NBMF_ERR_CHECKSUM;
	if (!header->complete && header->kind == NBMF_KIND_VECTOR &&
		(header->raw_len == 0 || header->raw_len % 4 != 0))
		return NBMF_ERR_CONTENT;
	header->checksum = checksum;
	header->complete = true;
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
		case NBMF_ERR_OBJECT_DAMAGED:
			return "The shared object that the value needs is damaged.";
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
		case NBMF_CODEC_NEURAL_LONG:
			return "neural_long";
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
