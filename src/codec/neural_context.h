/*
 * neural_context.h
 *		What the neural codec knows of the bytes before the next one, and the hashes
 *		of its contexts.
 *
 * A reader follows the bytes of a document alone, and so may be ahead of the coder
 * where the bytes are known.  The rules of neural_core.h hold here as well.
 */
#ifndef NBMF_NEURAL_CONTEXT_H
#define NBMF_NEURAL_CONTEXT_H

#include "codec/neural.h"

#define NEURAL_INLINE NEURAL_DEVICE static inline __attribute__((always_inline, unused))

NEURAL_INLINE uint64_t
neural_mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b * UINT64_C(0xD6E8FEB86659FD93))) * UINT64_C(0x9E3779B97F4A7C15);

	return x ^ (x >> 29);
}

NEURAL_INLINE uint32_t
neural_hash32(uint64_t x)
{
	return (uint32_t) ((x * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

/* Add a byte to a running hash */
NEURAL_INLINE uint32_t
neural_roll(uint32_t hash, uint8_t c)
{
	return neural_hash32(((uint64_t) hash << 9) + c + 7);
}

NEURAL_INLINE void
neural_hash_fast(const NeuralContext *x, uint64_t *h)
{
	uint64_t w = x->recent[0];
	uint64_t latest8 = neural_mix(2, w);

	h[NEURAL_ORDER6] = neural_mix(1, w & UINT64_C(0xffffffffffff));
	h[NEURAL_ORDER12] = neural_mix(latest8, x->recent[1] & UINT64_C(0xffffffff));
	h[NEURAL_ORDER20] =
		neural_mix(neural_mix(latest8, x->recent[1]), x->recent[2] & UINT64_C(0xffffffff));
	h[NEURAL_FIELD] = neural_mix(neural_mix(4, x->field), x->value);
}

/* Near the beginning of a value, where in it, with the last two bytes; the word beyond */
NEURAL_INLINE uint64_t
neural_place(const NeuralContext *x)
{
	return x->value_len < 12 ? (x->recent[0] & 0xffff) | (uint64_t) x->value_len << 20 : x->word;
}

NEURAL_INLINE void
neural_hash_slow(const NeuralContext *x, uint64_t *h)
{
	uint64_t w = x->recent[0];

	h[NEURAL_ORDER1] = neural_mix(5, w & 0xff);
	h[NEURAL_ORDER2] = neural_mix(6, w & 0xffff);
	h[NEURAL_ORDER3] = neural_mix(7, w & 0xffffff);
	h[NEURAL_ORDER4] = neural_mix(8, w & UINT64_C(0xffffffff));
	h[NEURAL_WORDS] = neural_mix(neural_mix(11, x->word), x->word_before);
	h[NEURAL_PLACE] = neural_mix(neural_mix(12, x->field), neural_place(x));
}

NEURAL_INLINE void
neural_read_json(NeuralReader *r, uint8_t c)
{
	if (r->in_string)
	{
		if (r->escaped)
			r->escaped = 0;
		else if (c == '\\')
			r->escaped = 1;
		else if (c == '"')
		{
			r->in_string = 0;
			r->key = r->string;
		}
		r->string = neural_roll(r->string, c);
		r->context.value = neural_roll(r->context.value, c);
		r->context.value_len++;
	}
	else if (c == '"')
	{
		r->in_string = 1;
		r->string = 0;
		r->context.value = neural_roll(r->context.value, c);
		r->context.value_len++;
	}
	else if (c == ':')
	{
		r->context.field =
			neural_hash32(neural_mix(r->path[r->depth & (NEURAL_DEPTH - 1)], r->key));
		r->context.value = 0;
		r->context.value_len = 0;
	}
	else if (c == ',')
	{
		r->context.field = neural_hash32(neural_mix(r->context.field, 77));
		r->context.value = 0;
		r->context.value_len = 0;
	}
	else if (c == '{' || c == '[')
	{
		uint32_t outer = r->path[r->depth & (NEURAL_DEPTH - 1)];

		r->depth++;
		r->context.field =
			neural_hash32(neural_mix(outer, (uint64_t) r->context.field + (c == '[')));
		r->path[r->depth & (NEURAL_DEPTH - 1)] = r->context.field;
		r->context.value = 0;
		r->context.value_len = 0;
	}
	else if (c == '}' || c == ']')
	{
		if (r->depth > 0)
			r->depth--;
		r->context.value = neural_roll(r->context.value, c);
	}
	else if (c != ' ' || r->context.value_len > 0)
	{
		r->context.value = neural_roll(r->context.value, c);
		r->context.value_len++;
	}
}

NEURAL_INLINE bool
neural_separates(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == ',' || c == '=' || c == ':' || c == '[' ||
		   c == ']' || c == '(' || c == ')' || c == '|' || c == '"';
}

NEURAL_INLINE void
neural_read_text(NeuralReader *r, uint8_t c)
{
	if (neural_separates(c))
	{
		r->key = c == '\n' ? 0 : r->key + 1;
		r->context.field = neural_hash32(neural_mix(r->key < 30 ? r->key : 30, c));
		r->context.value = 0;
		r->context.value_len = 0;
	}
	else
	{
		r->context.value = neural_roll(r->context.value, c);
		r->context.value_len++;
	}
}

/* Take in a byte */
NEURAL_INLINE void
neural_read(NeuralReader *r, uint8_t c)
{
	NeuralContext *x = &r->context;
	bool letter =
		(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 128;

	x->recent[2] = x->recent[2] << 8 | x->recent[1] >> 56;
	x->recent[1] = x->recent[1] << 8 | x->recent[0] >> 56;
	x->recent[0] = x->recent[0] << 8 | c;
	if (!r->started)
		r->json = c == '{' || c == '[';
	r->started = true;
	if (letter)
		x->word = neural_hash32(((uint64_t) x->word << 8) + c + 1) | 1;
	else if (x->word != 0)
	{
		x->word_before = x->word;
		x->word = 0;
	}
	if (r->json)
		neural_read_json(r, c);
	else
		neural_read_text(r, c);
}

#endif /* NBMF_NEURAL_CONTEXT_H */
