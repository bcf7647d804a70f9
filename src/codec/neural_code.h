/*
 * neural_code.h
 *		Encoding and decoding a document with a model's image: the arithmetic
 *		coder and the order of decisions.  Included by each coder.
 *
 * The coder keeps an interval of 64 bits and gives out its leading bytes as they
 * become certain.  The end writes as few bytes as tell the interval; a decoder
 * takes zeros for what comes after.  So a decoder never needs more than
 * LOOK_AHEAD bytes behind the payload, and one that does holds damage.
 */
#ifndef NBMF_NEURAL_CODE_H
#define NBMF_NEURAL_CODE_H

#include "codec/neural_core.h"

#define LOOK_AHEAD 8

typedef struct NeuralCoder
{
	uint64_t low;
	uint64_t high;
	uint64_t code;     /* decoder: what stands at low .. high */
	uint8_t *out;      /* encoder */
	const uint8_t *in; /* decoder */
	size_t at;
	size_t end;
	bool decode;
	bool over; /* encoder: no room; decoder: read too far */
} NeuralCoder;

NEURAL_INLINE uint8_t
coder_next(NeuralCoder *c)
{
	uint8_t byte = c->at < c->end ? c->in[c->at] : 0;

	if (c->at >= c->end + LOOK_AHEAD)
		c->over = true;
	c->at++;
	return byte;
}

/* Where an interval is divided for a bit whose probability of being 1 is p, of 65536 */
NEURAL_INLINE uint64_t
coder_middle(const NeuralCoder *c, uint32_t p)
{
	uint64_t range = c->high - c->low;

	return c->low + (range >> 16) * p + (((range & 0xffff) * p) >> 16);
}

/* Move on by the bytes that are certain */
NEURAL_INLINE void
coder_shift(NeuralCoder *c, bool decode)
{
	while (((c->low ^ c->high) >> 56) == 0)
	{
		if (decode)
			c->code = c->code << 8 | coder_next(c);
		else if (c->at < c->end)
			c->out[c->at++] = (uint8_t) (c->high >> 56);
		else
			c->over = true;
		c->low <<= 8;
		c->high = c->high << 8 | 0xff;
	}
}

/*
 * Code a bit whose probability of being 1 is p, of 65536.  Most are as expected, so
 * that a branch lets the processor go on before it knows.
 */
NEURAL_INLINE bool
coder_bit(NeuralCoder *c, bool decode, bool bit, uint32_t p)
{
	uint64_t middle = coder_middle(c, p);

	if (decode)
		bit = c->code <= middle;
	if (bit)
		c->high = middle;
	else
		c->low = middle + 1;
	coder_shift(c, decode);
	return bit;
}

/*
 * The same of a bit that is hard to foresee: no branch hangs on it.
 */
NEURAL_INLINE bool
coder_even_bit(NeuralCoder *c, bool decode, bool bit, uint32_t p)
{
	uint64_t middle = coder_middle(c, p);
	uint64_t one;

	if (decode)
		bit = c->code <= middle;
	one = 0 - (uint64_t) bit;
	c->high = (middle & one) | (c->high & ~one);
	c->low = ((middle + 1) & ~one) | (c->low & one);
	coder_shift(c, decode);
	return bit;
}

NEURAL_INLINE void
coder_flush(NeuralCoder *c)
{
	for (unsigned bytes = 0; bytes <= 8; bytes++)
	{
		uint64_t unit = bytes < 8 ? UINT64_MAX >> (8 * bytes) : 0;
		/* low rounded up to so many bytes */
		uint64_t value = c->low + unit;

		if (value < c->low)
			continue;
		value &= ~unit;
		if (value < c->low || value > c->high)
			continue;
		if (bytes > c->end - c->at)
			c->over = true;
		else
			for (unsigned i = 0; i < bytes; i++)
				c->out[c->at++] = (uint8_t) (value >> (56 - 8 * i));
		return;
	}
}

/* A byte that nobody guessed; nodes are stretched to inputs */
NEURAL_INLINE uint8_t
code_escape(const NeuralState *s, const NeuralImage *image, uint64_t *hash, NeuralCoder *coder,
			bool decode, uint8_t y)
{
	uint32_t node = 1;

	for (unsigned half = 0; half < 2; half++)
	{
		const int8_t *line[NEURAL_ESCAPE_CONTEXTS];
		uint32_t at = 1;

		if (half == 1)
		{
			for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
				hash[i] = neural_escape_half(hash[i], node & 15);
			neural_escape_prefetch(image, hash);
		}
		for (unsigned i = 0; i < NEURAL_ESCAPE_CONTEXTS; i++)
			line[i] = neural_escape_line(image, hash[i]);
		for (unsigned depth = 4 * half; depth < 4 * half + 4; depth++)
		{
			int16_t x[NEURAL_INPUTS];
			uint32_t excluded = neural_escape_excluded(s->excluded, s->excluded_count, node, depth);
			int32_t logit = neural_escape_logit(image, line, at, node, excluded, x);
			bool bit = coder_even_bit(coder, decode, (y >> (7 - depth)) & 1, neural_squash(logit));

			node = node << 1 | bit;
			at = at << 1 | bit;
		}
	}
	return (uint8_t) node;
}

/* One byte: y when encoding, the answer when decoding */
NEURAL_INLINE uint8_t
code_symbol(NeuralState *s, const NeuralImage *image, NeuralCoder *coder, bool decode, uint8_t y)
{
	NeuralDecision d;
	uint64_t hash[NEURAL_ESCAPE_CONTEXTS];
	unsigned guess = 0;

	s->excluded_count = 0;
	s->excluded = 0;
	neural_find_fast(s, image);
	if (neural_decide_fast(s, image, false, &d) && d.logit > FAST_LOGIT)
	{
		if (coder_bit(coder, decode, d.symbol == y, neural_squash(d.logit)))
			return d.symbol;
		neural_find_slow(s, image);
		neural_exclude(s, image, d.symbol);
		neural_escape_begin(s, image, hash);
		guess = 1;
	}
	else
		neural_find_slow(s, image);
	for (; guess < GUESSES && neural_decide(s, image, guess, false, &d); guess++)
	{
		if (coder_bit(coder, decode, d.symbol == y, neural_squash(d.logit)))
			return d.symbol;
		neural_exclude(s, image, d.symbol);
		if (guess == 0)
			neural_escape_begin(s, image, hash);
	}
	if (s->excluded_count == 0)
		neural_escape_begin(s, image, hash);
	return code_escape(s, image, hash, coder, decode, y);
}

/*
 * bounded: the end is not in the stream, because the reader knows the length.
 */
NEURAL_INLINE NbmfStatus
encode_document(NeuralState *s, const NeuralImage *image, const uint8_t *content, size_t len,
				bool bounded, uint8_t *payload, size_t cap, size_t *payload_len)
{
	NeuralCoder coder = {.high = UINT64_MAX, .out = payload, .end = cap};
	uint8_t end_mark = (uint8_t) image->end_mark;
	NeuralAhead ring[NEURAL_AHEAD];
	size_t ahead = 0;

	while (ahead <= len && ahead < NEURAL_AHEAD)
		neural_look_ahead(s, image, ring, ahead++);
	neural_go(s, ring, 0);
	for (size_t i = 0; i < len && !coder.over; i++)
	{
		code_symbol(s, image, &coder, false, content[i]);
		if (!bounded && content[i] == end_mark)
			coder_bit(&coder, false, false, END_PROBABILITY);
		neural_go(s, ring, i + 1);
		neural_enter(s, image);
		neural_update_matches(s, content[i]);
		if (ahead <= len)
			neural_look_ahead(s, image, ring, ahead++);
	}
	if (!bounded && !coder.over)
	{
		code_symbol(s, image, &coder, false, end_mark);
		coder_bit(&coder, false, true, END_PROBABILITY);
	}
	if (!coder.over)
		coder_flush(&coder);
	*payload_len = coder.at;
	return coder.over ? NBMF_ERR_SPACE : NBMF_OK;
}

NEURAL_INLINE NbmfStatus
decode_document(NeuralState *s, const NeuralImage *image, const uint8_t *payload,
				size_t payload_len, bool bounded, uint8_t *content, size_t cap, size_t *len)
{
	NeuralCoder coder = {.high = UINT64_MAX, .in = payload, .end = payload_len};
	uint8_t end_mark = (uint8_t) image->end_mark;
	size_t at = 0;

	neural_hash_fast(&s->now, s->hash);
	neural_fetch_fast(image, s->hash, s->line);
	for (unsigned i = 0; i < LOOK_AHEAD; i++)
		coder.code = coder.code << 8 | coder_next(&coder);
	while (!bounded || at < cap)
	{
		uint8_t c = code_symbol(s, image, &coder, true, 0);

		if (coder.over)
			return NBMF_ERR_PAYLOAD;
		if (!bounded && c == end_mark && coder_bit(&coder, true, false, END_PROBABILITY))
			break;
		if (at == cap)
			return NBMF_ERR_PAYLOAD;
		content[at++] = c;
		neural_update(s, image, c);
	}
	*len = at;
	return coder.over ? NBMF_ERR_PAYLOAD : NBMF_OK;
}

#endif /* NBMF_NEURAL_CODE_H */
