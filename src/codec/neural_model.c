/*
 * neural_model.c
 *		A model as it is stored, and its image in memory.
 *
 * The stored form holds the same as the image, sorted by kind and compressed by
 * libzstd, in a few planes; docs/format.md has them byte by byte.  Loading takes
 * nothing on trust: whatever the bytes are, it stays inside them and inside the
 * image, and every image that it calls good is safe to code with.
 */
#include "codec/neural_core.h"

#include <stdlib.h>
#include <zstd.h>

#define STORED_MAGIC   UINT32_C(0x4c444d4e)
#define STORED_VERSION 1
#define STORED_HEADER  28
#define STORE_LEVEL    15
#define STORE_WINDOW   20

/* Larger models are refused */
#define LINES_MAX          (UINT32_C(1) << 20)
#define ESCAPE_BUCKETS_MAX (UINT32_C(1) << 16)

/* Weights that are added up three at a time must not leave int16 */
#define WEIGHT_MAX 10922

enum
{
	PLANE_TABLES,
	PLANE_MASKS,
	PLANE_CHECK_LOW,
	PLANE_CHECK_HIGH,
	PLANE_LEVELS_LOW,
	PLANE_LEVELS_HIGH,
	PLANE_SYMBOL_0,
	PLANE_SYMBOL_1,
	PLANE_SYMBOL_2,
	PLANE_ESCAPE_MASKS,
	PLANE_ESCAPE_CHECKS,
	PLANE_ESCAPE_NODES,
	PLANES
};

/* Counts that a level stands for; level 15 is everything from 512 on */
const uint16_t nbmf_neural_level_value[16] = {0,  1,  2,  3,  4,  5,   7,   10,
											  13, 19, 27, 45, 90, 180, 360, 800};

unsigned
nbmf_neural_level(uint32_t count)
{
	static const uint16_t from[16] = {0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 23, 32, 64, 128, 256, 512};
	unsigned level = 15;

	while (from[level] > count)
		level--;
	return level;
}

static uint8_t
class_of(unsigned c)
{
	if (c >= '0' && c <= '9')
		return 1;
	if (c >= 'a' && c <= 'z')
		return 2;
	if (c >= 'A' && c <= 'Z')
		return 3;
	if (c >= 128)
		return 7;
	switch (c)
	{
		case ' ':
			return 4;
		case '"':
			return 5;
		case ',':
		case ':':
			return 6;
		case '{':
		case '}':
		case '[':
		case ']':
			return 8;
		case '.':
		case '-':
		case '_':
		case '/':
			return 9;
	}
	return 0;
}

size_t
nbmf_neural_image_size(uint32_t lines, uint32_t escape_buckets)
{
	size_t at = (sizeof(NeuralImage) + NEURAL_LINE - 1) / NEURAL_LINE * NEURAL_LINE;

	return at + (size_t) lines * NEURAL_LINE +
		   (size_t) escape_buckets * NEURAL_ESCAPE_LINE * NEURAL_ESCAPE_WAYS;
}

/*
 * Set everything in an image that does not depend on the model, and zero the
 * rest; image has nbmf_neural_image_size bytes.
 */
void
nbmf_neural_image_init(NeuralImage *image, uint32_t lines, uint32_t escape_buckets)
{
	memset(image, 0, nbmf_neural_image_size(lines, escape_buckets));
	image->magic = NEURAL_IMAGE_MAGIC;
	image->lines = lines;
	image->escape_buckets = escape_buckets;
	image->slots_at = (uint32_t) nbmf_neural_image_size(0, 0);
	image->escape_at = (uint32_t) nbmf_neural_image_size(lines, 0);
	image->size = (uint32_t) nbmf_neural_image_size(lines, escape_buckets);
	for (unsigned c = 0; c < 256; c++)
		image->class_of[c] = class_of(c);
	for (unsigned levels = 0; levels < 65536; levels++)
		image->rest[levels] = (uint8_t) nbmf_neural_level(
			(uint32_t) nbmf_neural_level_value[levels & 15] +
			nbmf_neural_level_value[levels >> 4 & 15] + nbmf_neural_level_value[levels >> 8 & 15] +
			nbmf_neural_level_value[levels >> 12]);
}

/* All int16 of the image, as one array */
static int16_t *
image_tables(NeuralImage *image, size_t *count)
{
	*count = (sizeof(NeuralImage) - offsetof(NeuralImage, evidence)) / sizeof(int16_t);
	return &image->evidence[0][0][0];
}

static void
put32(uint8_t *dst, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		dst[i] = (uint8_t) (v >> (8 * i));
}

static uint32_t
get32(const uint8_t *src)
{
	return (uint32_t) src[0] | (uint32_t) src[1] << 8 | (uint32_t) src[2] << 16 |
		   (uint32_t) src[3] << 24;
}

/* ----- storing ----- */

/* Fill one plane; returns its length */
static size_t
fill_plane(NeuralImage *image, unsigned plane, uint8_t *dst)
{
	size_t n = 0;

	if (plane == PLANE_TABLES)
	{
		size_t count;
		const int16_t *tables = image_tables(image, &count);

		/* high bytes apart from low ones */
		for (size_t i = 0; i < count; i++)
			dst[i] = (uint8_t) ((uint16_t) tables[i] & 0xff);
		for (size_t i = 0; i < count; i++)
			dst[count + i] = (uint8_t) ((uint16_t) tables[i] >> 8);
		return 2 * count;
	}
	if (plane >= PLANE_ESCAPE_MASKS)
	{
		const uint8_t *bucket = (const uint8_t *) image + image->escape_at;

		for (uint32_t b = 0; b < image->escape_buckets; b++)
		{
			unsigned mask = 0;

			for (unsigned w = 0; w < NEURAL_ESCAPE_WAYS; w++, bucket += NEURAL_ESCAPE_LINE)
			{
				if (bucket[0] == 0)
					continue;
				mask |= 1u << w;
				if (plane == PLANE_ESCAPE_CHECKS)
					dst[n++] = bucket[0];
				else if (plane == PLANE_ESCAPE_NODES)
				{
					memcpy(dst + n, bucket + 1, NEURAL_ESCAPE_LINE - 1);
					n += NEURAL_ESCAPE_LINE - 1;
				}
			}
			if (plane == PLANE_ESCAPE_MASKS)
				dst[n++] = (uint8_t) mask;
		}
		return n;
	}
	for (uint32_t l = 0; l < image->lines; l++)
	{
		const uint8_t *line = neural_slots(image) + (size_t) l * NEURAL_LINE;
		unsigned mask = 0;

		for (unsigned i = 0; i < NEURAL_LINE_SLOTS; i++)
		{
			const uint8_t *slot = line + NEURAL_LINE_CHECKS + i * NEURAL_SLOT_LEN;
			uint16_t check;
			uint16_t levels;

			memcpy(&check, line + 2 * i, 2);
			memcpy(&levels, slot + 3, 2);
			if (check == 0)
				continue;
			mask |= 1u << i;
			if (plane == PLANE_CHECK_LOW)
				dst[n++] = (uint8_t) (check & 0xff);
			else if (plane == PLANE_CHECK_HIGH)
				dst[n++] = (uint8_t) ((check & ~NEURAL_CHECK_MARK) >> 8);
			else if (plane == PLANE_LEVELS_LOW)
				dst[n++] = (uint8_t) (levels & 0xff);
			else if (plane == PLANE_LEVELS_HIGH)
				dst[n++] = (uint8_t) (levels >> 8);
			else if (plane == PLANE_SYMBOL_0)
				dst[n++] = slot[0];
			else if (plane == PLANE_SYMBOL_1 && (levels & 0xf0) != 0)
				dst[n++] = slot[1];
			else if (plane == PLANE_SYMBOL_2 && (levels & 0xf00) != 0)
				dst[n++] = slot[2];
		}
		if (plane == PLANE_MASKS)
			dst[n++] = (uint8_t) mask;
	}
	return n;
}

/*
 * Make the stored form of an image; the caller frees it.  interrupted, if not
 * NULL, is asked before each plane.
 */
NbmfStatus
nbmf_neural_store(const NeuralImage *image, bool (*interrupted)(void), void **stored,
				  size_t *stored_len)
{
	NeuralImage *from = (NeuralImage *) (uintptr_t) image;
	size_t room = image->size + 1024;
	size_t cap = ZSTD_compressBound(room) * 2 + STORED_HEADER + PLANES * 64;
	uint8_t *plane = malloc(room);
	uint8_t *dst = malloc(cap);
	ZSTD_CCtx *cctx = ZSTD_createCCtx();
	size_t at = STORED_HEADER;
	NbmfStatus status = plane != NULL && dst != NULL && cctx != NULL ? NBMF_OK : NBMF_ERR_MEMORY;

	if (status == NBMF_OK &&
		(ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, STORE_LEVEL)) ||
		 ZSTD_isError(ZSTD_CCtx_setParameter(cctx, ZSTD_c_windowLog, STORE_WINDOW))))
		status = NBMF_ERR_MEMORY;
	for (unsigned p = 0; p < PLANES && status == NBMF_OK; p++)
	{
		size_t n;
		size_t made;

		if (interrupted != NULL && interrupted())
		{
			status = NBMF_ERR_INTERRUPTED;
			break;
		}
		n = fill_plane(from, p, plane);
		made = ZSTD_compress2(cctx, dst + at + 4, cap - at - 4, plane, n);
		if (ZSTD_isError(made))
			status = NBMF_ERR_MEMORY;
		else
		{
			put32(dst + at, (uint32_t) made);
			at += 4 + made;
		}
	}
	if (status == NBMF_OK)
	{
		put32(dst, STORED_MAGIC);
		put32(dst + 8, STORED_VERSION);
		put32(dst + 12, image->lines);
		put32(dst + 16, image->escape_buckets);
		put32(dst + 20, image->end_mark);
		put32(dst + 24, (uint32_t) (at - STORED_HEADER));
		put32(dst + 4, nbmf_checksum(dst + 8, at - 8));
		*stored = dst;
		*stored_len = at;
		dst = NULL;
	}
	ZSTD_freeCCtx(cctx);
	free(plane);
	free(dst);
	return status;
}

/* ----- loading ----- */

/* Bytes of one plane, one after the other */
typedef struct PlaneReader
{
	ZSTD_DStream *stream;
	ZSTD_inBuffer in;
	uint8_t out[8192];
	size_t at;
	size_t len;
	bool ended;
	bool bad;
} PlaneReader;

static void
plane_fill(PlaneReader *r)
{
	ZSTD_outBuffer out = {r->out, sizeof(r->out), 0};
	size_t left = 1;

	while (!r->ended && out.pos == 0)
	{
		size_t before = r->in.pos;

		left = ZSTD_decompressStream(r->stream, &out, &r->in);
		if (ZSTD_isError(left) || (left != 0 && out.pos == 0 && r->in.pos == before))
		{
			r->bad = true;
			r->ended = true;
			break;
		}
		if (left == 0)
			r->ended = true;
	}
	r->at = 0;
	r->len = out.pos;
	if (out.pos == 0)
		r->bad = true;
}

static uint8_t
plane_byte(PlaneReader *r)
{
	if (r->at == r->len)
	{
		r->len = 0;
		r->at = 0;
		plane_fill(r);
		if (r->len == 0)
			return 0;
	}
	return r->out[r->at++];
}

/* Nothing may be left over */
static bool
plane_finish(PlaneReader *r)
{
	if (!r->bad && r->at == r->len && !r->ended)
	{
		ZSTD_outBuffer out = {r->out, sizeof(r->out), 0};
		size_t left = ZSTD_decompressStream(r->stream, &out, &r->in);

		r->ended = left == 0 && out.pos == 0;
	}
	return !r->bad && r->ended && r->at == r->len && r->in.pos == r->in.size;
}

static NbmfStatus
stored_header(const uint8_t *stored, size_t len, uint32_t *lines, uint32_t *escape_buckets)
{
	if (len < STORED_HEADER)
		return NBMF_ERR_TRUNCATED;
	if (get32(stored) != STORED_MAGIC)
		return NBMF_ERR_OBJECT;
	if (get32(stored + 8) != STORED_VERSION)
		return NBMF_ERR_RESERVED;
	*lines = get32(stored + 12);
	*escape_buckets = get32(stored + 16);
	if (get32(stored + 24) != len - STORED_HEADER || *lines < 1 || *lines > LINES_MAX ||
		*escape_buckets < 1 || *escape_buckets > ESCAPE_BUCKETS_MAX || get32(stored + 20) > 255)
		return NBMF_ERR_LENGTH;
	if (get32(stored + 4) != nbmf_checksum(stored + 8, len - 8))
		return NBMF_ERR_CHECKSUM;
	return NBMF_OK;
}

/*
 * Bytes that the image of a stored model takes.
 */
NbmfStatus
nbmf_model_memory(const void *stored, size_t len, size_t *bytes)
{
	uint32_t lines;
	uint32_t escape_buckets;
	NbmfStatus status = stored_header(stored, len, &lines, &escape_buckets);

	if (status == NBMF_OK)
		*bytes = nbmf_neural_image_size(lines, escape_buckets);
	return status;
}

static void
read_tables(NeuralImage *image, PlaneReader *r)
{
	size_t count;
	int16_t *tables = image_tables(image, &count);

	for (unsigned shift = 0; shift < 16; shift += 8)
		for (size_t i = 0; i < count; i++)
			tables[i] = (int16_t) ((uint16_t) tables[i] | (uint16_t) (plane_byte(r) << shift));
}

/*
 * Evidence within the logits, weights such that no sum of three overflows: then
 * no sum of products does either.
 */
static bool
tables_valid(const NeuralImage *image)
{
	const int16_t *evidence = &image->evidence[0][0][0];
	const int16_t *weights = &image->fast_found[0][0];
	size_t evidence_count = sizeof(image->evidence) / sizeof(int16_t);
	size_t count = (sizeof(NeuralImage) - offsetof(NeuralImage, fast_found)) / sizeof(int16_t);

	for (size_t i = 0; i < evidence_count; i++)
		if (evidence[i] < -LOGIT_MAX || evidence[i] > LOGIT_MAX)
			return false;
	for (size_t i = 0; i < count; i++)
		if (weights[i] < -WEIGHT_MAX || weights[i] > WEIGHT_MAX)
			return false;
	return true;
}

static void
read_slots(NeuralImage *image, PlaneReader *r, unsigned plane)
{
	for (uint32_t l = 0; l < image->lines && !r->bad; l++)
	{
		uint8_t *line = neural_slots(image) + (size_t) l * NEURAL_LINE;
		unsigned mask = 0;

		if (plane == PLANE_MASKS)
			mask = plane_byte(r);
		for (unsigned i = 0; i < NEURAL_LINE_SLOTS; i++)
		{
			uint8_t *slot = line + NEURAL_LINE_CHECKS + i * NEURAL_SLOT_LEN;
			uint16_t check;
			uint16_t levels;

			memcpy(&check, line + 2 * i, 2);
			memcpy(&levels, slot + 3, 2);
			if (plane == PLANE_MASKS)
			{
				check = mask >> i & 1 ? NEURAL_CHECK_MARK : 0;
				memcpy(line + 2 * i, &check, 2);
				continue;
			}
			if (check == 0)
				continue;
			if (plane == PLANE_CHECK_LOW)
				check = (uint16_t) (check | plane_byte(r));
			else if (plane == PLANE_CHECK_HIGH)
			{
				uint8_t high = plane_byte(r);

				check = (uint16_t) (check | (high & 15) << 8);
				if (high > 15)
					r->bad = true;
			}
			else if (plane == PLANE_LEVELS_LOW)
				levels = plane_byte(r);
			else if (plane == PLANE_LEVELS_HIGH)
				levels = (uint16_t) (levels | plane_byte(r) << 8);
			else if (plane == PLANE_SYMBOL_0)
				slot[0] = plane_byte(r);
			else if (plane == PLANE_SYMBOL_1 && (levels & 0xf0) != 0)
				slot[1] = plane_byte(r);
			else if (plane == PLANE_SYMBOL_2 && (levels & 0xf00) != 0)
				slot[2] = plane_byte(r);
			memcpy(line + 2 * i, &check, 2);
			memcpy(slot + 3, &levels, 2);
		}
	}
}

static void
read_escape(NeuralImage *image, PlaneReader *r, unsigned plane)
{
	uint8_t *line = (uint8_t *) image + image->escape_at;

	for (uint32_t b = 0; b < image->escape_buckets && !r->bad; b++)
	{
		unsigned mask = 0;

		if (plane == PLANE_ESCAPE_MASKS)
			mask = plane_byte(r);
		for (unsigned w = 0; w < NEURAL_ESCAPE_WAYS; w++, line += NEURAL_ESCAPE_LINE)
		{
			if (plane == PLANE_ESCAPE_MASKS)
				line[0] = mask >> w & 1;
			else if (line[0] == 0)
				continue;
			else if (plane == PLANE_ESCAPE_CHECKS)
			{
				line[0] = plane_byte(r);
				if (line[0] == 0)
					r->bad = true;
			}
			else
				for (unsigned i = 1; i < NEURAL_ESCAPE_LINE; i++)
					line[i] = plane_byte(r);
		}
		if (mask >> NEURAL_ESCAPE_WAYS != 0)
			r->bad = true;
	}
}

/*
 * Build the image of a stored model in cap bytes of the caller's memory, which
 * is aligned to 64 bytes.  Read only from then on; may be used by many at once.
 */
NbmfStatus
nbmf_model_load(const void *stored, size_t len, void *image, size_t cap)
{
	const uint8_t *src = stored;
	size_t at = STORED_HEADER;
	uint32_t lines;
	uint32_t escape_buckets;
	NeuralImage *to = image;
	PlaneReader reader;
	NbmfStatus status = stored_header(src, len, &lines, &escape_buckets);

	if (status != NBMF_OK)
		return status;
	if (cap < nbmf_neural_image_size(lines, escape_buckets))
		return NBMF_ERR_SPACE;
	nbmf_neural_image_init(to, lines, escape_buckets);
	to->end_mark = get32(src + 20);

	reader.stream = ZSTD_createDStream();
	if (reader.stream == NULL)
		return NBMF_ERR_MEMORY;
	if (ZSTD_isError(ZSTD_DCtx_setParameter(reader.stream, ZSTD_d_windowLogMax, STORE_WINDOW)))
		status = NBMF_ERR_MEMORY;
	for (unsigned plane = 0; plane < PLANES && status == NBMF_OK; plane++)
	{
		size_t size = len - at >= 4 ? get32(src + at) : 0;

		if (len - at < 4 || size > len - at - 4 ||
			ZSTD_isError(ZSTD_DCtx_reset(reader.stream, ZSTD_reset_session_only)))
		{
			status = NBMF_ERR_LENGTH;
			break;
		}
		reader.in = (ZSTD_inBuffer){src + at + 4, size, 0};
		reader.at = 0;
		reader.len = 0;
		reader.ended = false;
		reader.bad = false;
		if (plane == PLANE_TABLES)
			read_tables(to, &reader);
		else if (plane < PLANE_ESCAPE_MASKS)
			read_slots(to, &reader, plane);
		else
			read_escape(to, &reader, plane);
		if (!plane_finish(&reader) || (plane == PLANE_TABLES && !tables_valid(to)))
			status = NBMF_ERR_PAYLOAD;
		at += 4 + size;
	}
	ZSTD_freeDStream(reader.stream);
	if (status == NBMF_OK && at != len)
		status = NBMF_ERR_LENGTH;
	return status;
}
