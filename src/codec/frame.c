/*
 * frame.c
 *		The header of a frame: parsing and writing it.
 *
 * A frame is the content of an nbmf varlena.  This version writes and reads
 *
 *	OFFSET	SIZE	MEANING
 *	0		1		bits 0-3 codec, bits 4-5 kind, bits 6-7 tier
 *	.		0-5		id of the shared object (codecs with a dictionary or a model
 *					only), a number in prefix code
 *	.		1-5		length of the content (absent for the stored codec, whose
 *					payload is the content, and for the neural codec, whose
 *					payload holds its end)
 *	.		4		checksum of the content plus kind * 0x9E3779B1, modulo
 *					2^32, little-endian; only the low 2 bytes of it for the
 *					neural codec
 *	.		rest	payload
 *
 * Length and id are numbers in prefix code: the count of leading 1 bits of the
 * first byte says how many bytes follow it, and each size starts counting
 * where the shorter one ended, so that every number has exactly one code.
 *
 *	FIRST BYTE		FOLLOWING	LENGTHS
 *	0xxxxxxx		0			0 .. 127
 *	10xxxxxx		1			128 .. 16511
 *	110xxxxx		2			16512 .. 2113663
 *	1110xxxx		3			2113664 .. 270549119
 *	11110000		4			270549120 .. (limit: NBMF_CONTENT_MAX)
 *
 * The x bits are the most significant ones; following bytes are big-endian.
 * docs/format.md is the specification; this comment and that page must agree.
 */
#include "codec/codec.h"

#include <string.h>

#define CODEC_MASK 0x0fu
#define KIND_SHIFT 4
#define KIND_MASK  0x03u
#define TIER_SHIFT 6
#define TIER_MASK  0x03u

/* First number that needs 1, 2, 3 and 4 following bytes */
static const uint32_t number_base[] = {0, 128, 16512, 2113664, 270549120};

#define NUMBER_CODES (sizeof(number_base) / sizeof(number_base[0]))
#define CHECKSUM_LEN 4

/* Of the neural codec's frames, which are short */
#define CHECKSUM_SHORT_LEN 2

_Static_assert(NBMF_KIND_VECTOR <= KIND_MASK, "a kind has two bits");
_Static_assert(NBMF_TIER_L3 < TIER_MASK, "a tier has two bits, and 3 is reserved");
_Static_assert(NBMF_CODEC_NEURAL_LONG < NBMF_CODEC_EXTENDED, "15 is the escape");
_Static_assert(NBMF_CODEC_EXTENDED == CODEC_MASK, "a codec has four bits");
_Static_assert(1 + 5 + 5 + CHECKSUM_LEN <= NBMF_FRAME_HEADER_MAX, "header fits its slice");
_Static_assert(1 + 1 + CHECKSUM_LEN >= NBMF_ZSTD_BLOCK_LEAD, "block payloads have their lead");
_Static_assert(NBMF_CONTENT_MAX + NBMF_FRAME_HEADER_MAX + 4 <= 0x3fffffff, "fits a varlena");

/*
 * The kind goes into the stored checksum, so that a damaged kind does not turn
 * a text into bytes unnoticed; taking it out again leaves the checksum of the
 * content, which equality and hashing start from.
 */
static inline uint32_t
kind_mix(NbmfKind kind)
{
	return (uint32_t) kind * UINT32_C(0x9E3779B1);
}

/*
 * Bounds-checked reading of untrusted bytes.  Once a read would pass the end,
 * the cursor is "bad", every later read gives 0, and the caller tests once.
 */
typedef struct Cursor
{
	const uint8_t *pos;
	const uint8_t *end;
	bool bad;
} Cursor;

static inline uint8_t
cursor_u8(Cursor *c)
{
	if (c->pos == c->end)
	{
		c->bad = true;
		return 0;
	}
	return *c->pos++;
}

static uint32_t
cursor_little(Cursor *c, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned shift = 0; shift < 8 * bytes; shift += 8)
		v |= (uint32_t) cursor_u8(c) << shift;
	return v;
}

/*
 * Read a number.  A first byte that none starts with is not bad as far as the
 * cursor goes; the result is then over every limit.
 */
static uint64_t
cursor_number(Cursor *c)
{
	uint8_t first = cursor_u8(c);
	unsigned follow = 0;
	uint64_t v;

	while (follow < NUMBER_CODES && (first & (0x80u >> follow)))
		follow++;
	if (follow == NUMBER_CODES)
		return UINT64_MAX;

	v = first & (0x7fu >> follow);
	for (unsigned i = 0; i < follow; i++)
		v = (v << 8) | cursor_u8(c);
	return v + number_base[follow];
}

static unsigned
number_follow(uint64_t number)
{
	unsigned follow = 0;

	while (follow + 1 < NUMBER_CODES && number >= number_base[follow + 1])
		follow++;
	return follow;
}

bool
nbmf_codec_has_dict(NbmfCodec codec)
{
	return codec >= NBMF_CODEC_DICT && codec <= NBMF_CODEC_DICT_BLOCKS;
}

bool
nbmf_codec_has_model(NbmfCodec codec)
{
	return codec == NBMF_CODEC_NEURAL || codec == NBMF_CODEC_NEURAL_LONG;
}

/* Whether a codec's frames say the length of their content */
static inline bool
has_length(NbmfCodec codec)
{
	return codec != NBMF_CODEC_STORED && codec != NBMF_CODEC_NEURAL;
}

static inline unsigned
checksum_len(NbmfCodec codec)
{
	return codec == NBMF_CODEC_NEURAL ? CHECKSUM_SHORT_LEN : CHECKSUM_LEN;
}

/*
 * Length in bytes of the header that nbmf_frame_write_header would write.
 */
size_t
nbmf_frame_header_len(NbmfCodec codec, uint32_t object, size_t raw_len)
{
	size_t len = 1 + checksum_len(codec);

	if (has_length(codec))
		len += 1 + number_follow(raw_len);
	if (object != 0)
		len += 1 + number_follow(object);
	return len;
}

static uint8_t *
write_number(uint8_t *dst, uint64_t number)
{
	unsigned follow = number_follow(number);
	uint64_t v = number - number_base[follow];
	uint8_t prefix = (uint8_t) (0xff00u >> follow);

	*dst++ = (uint8_t) (prefix | (v >> (8 * follow)));
	while (follow-- > 0)
		*dst++ = (uint8_t) (v >> (8 * follow));
	return dst;
}

/*
 * Write the header for codec, kind, tier, object, raw_len and checksum of *frame;
 * dst has nbmf_frame_header_len bytes of room.
 */
void
nbmf_frame_write_header(uint8_t *dst, const NbmfFrame *frame)
{
	*dst++ = (uint8_t) ((unsigned) frame->codec | (unsigned) frame->kind << KIND_SHIFT |
						(unsigned) frame->tier << TIER_SHIFT);
	if (frame->object != 0)
		dst = write_number(dst, frame->object);
	if (has_length(frame->codec))
		dst = write_number(dst, frame->raw_len);
	for (unsigned shift = 0; shift < 8 * checksum_len(frame->codec); shift += 8)
		*dst++ = (uint8_t) ((frame->checksum + kind_mix(frame->kind)) >> shift);
}

/*
 * Parse a frame's header.
 *
 * frame_len is the length of the whole frame, avail how much of it is there:
 * all, or a slice of at least NBMF_FRAME_HEADER_MAX bytes.  On success every
 * field of *out is set, and the declared lengths are possible: raw_len is no
 * more than NBMF_CONTENT_MAX and no more than the payload could decode to.  Where
 * out->complete is false, raw_len is such a bound and nothing more.
 */
NbmfStatus
nbmf_frame_parse(const void *frame, size_t avail, size_t frame_len, NbmfFrame *out)
{
	Cursor c = {.pos = frame, .end = (const uint8_t *) frame + avail, .bad = false};
	uint8_t first = cursor_u8(&c);
	unsigned tier = (first >> TIER_SHIFT) & TIER_MASK;
	uint64_t object = 0;
	uint64_t raw_len = 0;
	bool needs_object;

	memset(out, 0, sizeof(*out));
	if (c.bad)
		return NBMF_ERR_TRUNCATED;
	out->codec = (NbmfCodec) (first & CODEC_MASK);
	out->kind = (NbmfKind) ((first >> KIND_SHIFT) & KIND_MASK);
	out->tier = (NbmfTier) tier;

	needs_object = nbmf_codec_has_dict(out->codec) || nbmf_codec_has_model(out->codec);
	if (tier > NBMF_TIER_L3 || (out->codec > NBMF_CODEC_DICT_BLOCKS && !needs_object))
		return NBMF_ERR_RESERVED;

	if (needs_object)
		object = cursor_number(&c);
	if (has_length(out->codec))
		raw_len = cursor_number(&c);
	out->complete = out->codec != NBMF_CODEC_NEURAL;
	out->checksum = (cursor_little(&c, checksum_len(out->codec)) - kind_mix(out->kind)) &
					nbmf_frame_checksum_mask(out);
	if (c.bad)
		return NBMF_ERR_TRUNCATED;

	out->header_len = (size_t) (c.pos - (const uint8_t *) frame);
	out->payload_len = frame_len - out->header_len;

	if (out->codec == NBMF_CODEC_STORED)
		raw_len = out->payload_len;
	else if (out->codec == NBMF_CODEC_NEURAL)
		raw_len = NBMF_NEURAL_SHORT_MAX;
	else if (out->codec == NBMF_CODEC_NEURAL_LONG)
	{
		/* a byte of payload may stand for any number of bytes: this is the limit */
		if (raw_len <= NBMF_NEURAL_SHORT_MAX || raw_len > NBMF_CHUNK)
			return NBMF_ERR_LENGTH;
	}
	else if (raw_len > nbmf_zstd_plausible_len(out->codec, out->payload_len))
		return NBMF_ERR_LENGTH;
	if (raw_len > NBMF_CONTENT_MAX)
		return NBMF_ERR_LENGTH;
	if (needs_object && (object == 0 || object > NBMF_OBJECT_MAX))
		return NBMF_ERR_OBJECT;
	out->raw_len = (size_t) raw_len;
	out->object = (uint32_t) object;
	if (out->complete && out->kind == NBMF_KIND_VECTOR &&
		(out->raw_len == 0 || out->raw_len % 4 != 0))
		return NBMF_ERR_CONTENT;
	return NBMF_OK;
}
