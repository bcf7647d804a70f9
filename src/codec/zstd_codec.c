/*
 * zstd_codec.c
 *		The codecs that libzstd does: a whole frame, its blocks, or one block.
 *
 * libzstd is asked for magicless frames without content size, checksum and
 * dictionary id: the nbmf frame has its own.  Content up to 128 KB nearly
 * always gives a frame with exactly one compressed block, and then its five
 * remaining bytes of framing (frame header descriptor, window descriptor and
 * block header: RFC 8878, 3.1.1.1 and 3.1.1.2) say nothing that the lengths do
 * not say already.  NBMF_CODEC_ZSTD_BLOCK leaves them out and puts an
 * equivalent header back before decoding: at ratio 13 a chat turn is about 45
 * bytes, and five of them are a tenth of the row.  NBMF_CODEC_ZSTD_BLOCKS does
 * the same for the frame header alone, where a frame has more blocks or one of
 * another type.  Longer content keeps its frame whole, to be decoded in place.
 *
 * The three codecs with a dictionary are the same, made and read with a
 * dictionary that both sides have digested beforehand (NbmfDict).
 */
#include "codec/codec.h"

#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_f_zstd1_magicless */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/*
 * Frame_Header_Descriptor: no single segment, no checksum, no dictionary id,
 * no content size.  It is what the parameters below make libzstd write.
 */
#define FHD_PLAIN 0x00u

/* Single_Segment_flag, and Frame_Content_Size_flag for 1, 2 and 4 bytes */
#define FHD_SIZE_1      0x20u
#define FHD_SIZE_2      0x60u
#define FHD_SIZE_4      0xa0u
#define FHD_SIZE_2_BASE 256u
#define FHD_SIZE_4_FROM (65536u + FHD_SIZE_2_BASE)

/* Frame_Header_Descriptor and Window_Descriptor */
#define FRAME_HEADER_LEN 2

/* Block_Header: Last_Block, Block_Type Compressed_Block, 21 bits of size */
#define BLOCK_HEADER_LEN 3
#define BLOCK_LAST       0x01u
#define BLOCK_TYPE_MASK  0x06u
#define BLOCK_COMPRESSED 0x04u
#define BLOCK_RLE        0x02u

/* Longest header that decoding a block puts in front of it */
#define BLOCK_LEAD_MAX (1 + 4 + BLOCK_HEADER_LEN)

/* The smallest block that regenerates anything (RLE) has this many bytes */
#define BLOCK_LEN_MIN (BLOCK_HEADER_LEN + 1)

_Static_assert(NBMF_ZSTD_BLOCK_LEAD == FRAME_HEADER_LEN + BLOCK_HEADER_LEN,
			   "what libzstd writes first");
_Static_assert(ZSTD_BLOCKSIZE_MAX == 1 << 17, "RFC 8878, 3.1.1.2.4");

/* What is left of a zstd frame, in the order of the codecs' numbers */
typedef enum Shape
{
	SHAPE_FRAME,
	SHAPE_BLOCK,
	SHAPE_BLOCKS
} Shape;

_Static_assert((int) NBMF_CODEC_ZSTD_BLOCKS == (int) NBMF_CODEC_ZSTD + (int) SHAPE_BLOCKS,
			   "order of codecs");
_Static_assert((int) NBMF_CODEC_DICT_BLOCKS == (int) NBMF_CODEC_DICT + (int) SHAPE_BLOCKS,
			   "order of codecs");

static inline Shape
shape_of(NbmfCodec codec)
{
	return (Shape) ((int) codec -
					(int) (codec < NBMF_CODEC_DICT ? NBMF_CODEC_ZSTD : NBMF_CODEC_DICT));
}

/*
 * Upper bound of the content that a payload of this length can decode to.  No
 * zstd block regenerates more than 128 KB, so a frame that declares more than
 * this is damaged, and nobody needs to allocate memory to find out.
 */
size_t
nbmf_zstd_plausible_len(NbmfCodec codec, size_t payload_len)
{
	size_t blocks = payload_len / BLOCK_LEN_MIN;

	if (shape_of(codec) == SHAPE_BLOCK)
		blocks = payload_len > 0 ? 1 : 0;
	else if (shape_of(codec) == SHAPE_BLOCKS && blocks > 1)
		blocks = 1;
	if (blocks > NBMF_CONTENT_MAX / ZSTD_BLOCKSIZE_MAX)
		return NBMF_CONTENT_MAX;
	return blocks * ZSTD_BLOCKSIZE_MAX;
}

/*
 * Room for the payload that nbmf_zstd_encode should be given.  libzstd gives
 * up early in a tight buffer, even where its result would have fitted, so
 * short content gets all that it could ask for; long content, where a few
 * bytes do not decide, only what would still be smaller.
 */
size_t
nbmf_zstd_encode_room(size_t len)
{
	return len <= ZSTD_BLOCKSIZE_MAX ? ZSTD_compressBound(len) : len;
}

static bool
prepare_cctx(NbmfWorkspace *ws, int level)
{
	if (ws->cctx == NULL)
	{
		ZSTD_CCtx *cctx = ZSTD_createCCtx();

		if (cctx == NULL)
			return false;
		if (ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_format, ZSTD_f_zstd1_magicless)) ||
			ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0)) ||
			ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 0)) ||
			ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0)))
		{
			ZSTD_freeCCtx(cctx);
			return false;
		}
		ws->cctx = cctx;
		ws->level = 0;
	}
	if (ws->level != level)
	{
		if (ZSTD_isError(ZSTD_CCtx_setParameter(ws->cctx, ZSTD_c_compressionLevel, level)))
			return false;
		ws->level = level;
	}
	return true;
}

static bool
prepare_dctx(NbmfWorkspace *ws)
{
	if (ws->dctx == NULL)
	{
		ZSTD_DCtx *dctx = ZSTD_createDCtx();

		if (dctx == NULL)
			return false;
		if (ZSTD_isError(ZSTD_DCtx_setParameter(dctx, ZSTD_d_format, ZSTD_f_zstd1_magicless)))
		{
			ZSTD_freeDCtx(dctx);
			return false;
		}
		ws->dctx = dctx;
	}
	return true;
}

/*
 * Compress long content in steps, asking between them whether to stop.
 */
static NbmfStatus
compress_in_steps(ZSTD_CCtx *cctx, const NbmfEncodeParams *params, const void *content, size_t len,
				  void *dst, size_t cap, size_t *dst_len)
{
	ZSTD_outBuffer out = {.dst = dst, .size = cap, .pos = 0};
	ZSTD_inBuffer in = {.src = content, .size = 0, .pos = 0};
	size_t result;

	if (ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(cctx, len)))
		return NBMF_ERR_MEMORY;
	do
	{
		ZSTD_EndDirective directive = ZSTD_e_continue;

		if (params->interrupted != NULL && params->interrupted())
		{
			ZSTD_CCtx_reset(cctx, ZSTD_reset_session_only);
			return NBMF_ERR_INTERRUPTED;
		}
		if (in.pos == in.size)
			in.size = len - in.size > NBMF_CHUNK ? in.size + NBMF_CHUNK : len;
		if (in.size == len)
			directive = ZSTD_e_end;
		result = ZSTD_compressStream2(cctx, &out, &in, directive);
		if (ZSTD_isError(result) || (out.pos == out.size && (result > 0 || in.pos < len)))
		{
			ZSTD_CCtx_reset(cctx, ZSTD_reset_session_only);
			return ZSTD_isError(result) ? NBMF_ERR_MEMORY : NBMF_ERR_SPACE;
		}
	} while (in.pos < len || result > 0);
	*dst_len = out.pos;
	return NBMF_OK;
}

/*
 * Compress content to payload[0 .. *payload_len).
 *
 * There must be NBMF_ZSTD_BLOCK_LEAD writable bytes before payload; their
 * values are lost.  NBMF_ERR_SPACE says that cap bytes were not enough, which
 * callers use to learn that compressing is not worth it.
 */
NbmfStatus
nbmf_zstd_encode(NbmfWorkspace *ws, const NbmfEncodeParams *params, const void *content, size_t len,
				 uint8_t *payload, size_t cap, NbmfCodec *codec, size_t *payload_len)
{
	uint8_t *dst = payload - NBMF_ZSTD_BLOCK_LEAD;
	size_t dst_cap = cap + NBMF_ZSTD_BLOCK_LEAD;
	size_t dst_len;

	NbmfCodec family = params->dict != NULL ? NBMF_CODEC_DICT : NBMF_CODEC_ZSTD;
	Shape shape = SHAPE_FRAME;

	if (!prepare_cctx(ws, params->level) ||
		ZSTD_isError(
			ZSTD_CCtx_refCDict(ws->cctx, params->dict != NULL ? params->dict->cdict : NULL)))
		return NBMF_ERR_MEMORY;

	if (len <= NBMF_CHUNK)
	{
		dst_len = ZSTD_compress2(ws->cctx, dst, dst_cap, content, len);

		/* it leaves a session behind when its room is too small */
		if (ZSTD_isError(dst_len))
			ZSTD_CCtx_reset(ws->cctx, ZSTD_reset_session_only);
		if (ZSTD_getErrorCode(dst_len) == ZSTD_error_dstSize_tooSmall)
			return NBMF_ERR_SPACE;
		if (ZSTD_isError(dst_len))
			return NBMF_ERR_MEMORY;
	}
	else
	{
		NbmfStatus status =
			compress_in_steps(ws->cctx, params, content, len, dst, dst_cap, &dst_len);

		if (status != NBMF_OK)
			return status;
	}

	if (len <= ZSTD_BLOCKSIZE_MAX && dst_len > NBMF_ZSTD_BLOCK_LEAD && dst[0] == FHD_PLAIN)
	{
		shape = SHAPE_BLOCKS;
		if ((dst[FRAME_HEADER_LEN] & (BLOCK_LAST | BLOCK_TYPE_MASK)) ==
			(BLOCK_LAST | BLOCK_COMPRESSED))
			shape = SHAPE_BLOCK;
	}
	*codec = (NbmfCodec) ((int) family + (int) shape);

	/* a last block ends the frame, so its size is the rest: nothing is lost */
	if (shape != SHAPE_FRAME)
	{
		size_t cut = shape == SHAPE_BLOCK ? NBMF_ZSTD_BLOCK_LEAD : FRAME_HEADER_LEN;

		dst += cut;
		dst_len -= cut;
	}
	if (dst_len > cap)
		return NBMF_ERR_SPACE;
	if (dst != payload)
		memmove(payload, dst, dst_len);
	*payload_len = dst_len;
	return NBMF_OK;
}

/*
 * Put a frame header in front of bare blocks, or a frame header and a block
 * header in front of the body of one, in ws->block.  The frame is declared as
 * a single segment of the content's length, so that libzstd itself refuses
 * blocks that decode to another length.  Returns the length of the frame, 0 if
 * there is no memory.
 */
static size_t
rebuild_frame(NbmfWorkspace *ws, Shape shape, const uint8_t *block, size_t block_len, size_t len)
{
	uint8_t *p;
	uint32_t header = BLOCK_LAST | BLOCK_COMPRESSED | (uint32_t) block_len << 3;
	uint32_t size = (uint32_t) len;
	int size_bytes;

	if (ws->block == NULL)
	{
		ws->block = malloc(BLOCK_LEAD_MAX + ZSTD_BLOCKSIZE_MAX);
		if (ws->block == NULL)
			return 0;
	}
	p = ws->block;

	if (len < FHD_SIZE_2_BASE)
	{
		*p++ = FHD_SIZE_1;
		size_bytes = 1;
	}
	else if (len < FHD_SIZE_4_FROM)
	{
		*p++ = FHD_SIZE_2;
		size -= FHD_SIZE_2_BASE;
		size_bytes = 2;
	}
	else
	{
		*p++ = FHD_SIZE_4;
		size_bytes = 4;
	}
	for (; size_bytes > 0; size_bytes--, size >>= 8)
		*p++ = (uint8_t) size;
	if (shape == SHAPE_BLOCK)
	{
		for (int i = 0; i < BLOCK_HEADER_LEN; i++, header >>= 8)
			*p++ = (uint8_t) header;
	}
	memcpy(p, block, block_len);
	return (size_t) (p - ws->block) + block_len;
}

/*
 * Do the blocks end exactly where the payload does?
 *
 * libzstd would take what is left for another frame, and libzstd 1.5.4 looks
 * for its magic number without asking whether there are four bytes.
 */
static bool
blocks_are_whole(const uint8_t *p, size_t len)
{
	for (;;)
	{
		uint32_t header;
		size_t size;

		if (len < BLOCK_HEADER_LEN)
			return false;
		header = p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16;
		size = (header & BLOCK_TYPE_MASK) == BLOCK_RLE ? 1 : header >> 3;
		p += BLOCK_HEADER_LEN;
		len -= BLOCK_HEADER_LEN;
		if (size > len)
			return false;
		p += size;
		len -= size;
		if (header & BLOCK_LAST)
			return len == 0;
	}
}

/*
 * Decompress payload to exactly len bytes of content.
 */
NbmfStatus
nbmf_zstd_decode(NbmfWorkspace *ws, NbmfCodec codec, const NbmfDict *dict, const uint8_t *payload,
				 size_t payload_len, void *content, size_t len)
{
	const uint8_t *src = payload;
	size_t src_len = payload_len;
	Shape shape = shape_of(codec);
	size_t got;

	if (!prepare_dctx(ws) ||
		ZSTD_isError(ZSTD_DCtx_refDDict(ws->dctx, dict != NULL ? dict->ddict : NULL)))
		return NBMF_ERR_MEMORY;
	if (shape == SHAPE_FRAME)
	{
		if (payload_len < FRAME_HEADER_LEN || payload[0] != FHD_PLAIN ||
			!blocks_are_whole(payload + FRAME_HEADER_LEN, payload_len - FRAME_HEADER_LEN))
			return NBMF_ERR_PAYLOAD;
	}
	else
	{
		if (payload_len > ZSTD_BLOCKSIZE_MAX ||
			(shape == SHAPE_BLOCKS && !blocks_are_whole(payload, payload_len)))
			return NBMF_ERR_PAYLOAD;
		src_len = rebuild_frame(ws, shape, payload, payload_len, len);
		if (src_len == 0)
			return NBMF_ERR_MEMORY;
		src = ws->block;
	}
	got = ZSTD_decompressDCtx(ws->dctx, content, len, src, src_len);
	if (ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
		return NBMF_ERR_MEMORY;
	if (ZSTD_isError(got))
		return NBMF_ERR_PAYLOAD;
	return got == len ? NBMF_OK : NBMF_ERR_LENGTH;
}

/*
 * Give back a compression context, or room to try the neural codec, that one
 * long document or high level has
 * blown up beyond limit bytes; it is created again when next needed.
 */
void
nbmf_workspace_trim(NbmfWorkspace *ws, size_t limit)
{
	if (ws->cctx != NULL && ZSTD_sizeof_CCtx(ws->cctx) > limit)
	{
		ZSTD_freeCCtx(ws->cctx);
		ws->cctx = NULL;
	}
	if (ws->neural_room > limit)
	{
		free(ws->neural);
		ws->neural = NULL;
		ws->neural_room = 0;
	}
}

void
nbmf_workspace_free(NbmfWorkspace *ws)
{
	ZSTD_freeCCtx(ws->cctx);
	ZSTD_freeDCtx(ws->dctx);
	free(ws->block);
	free(ws->neural);
	memset(ws, 0, sizeof(*ws));
}
