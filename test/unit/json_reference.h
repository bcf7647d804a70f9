/*
 * json_reference.h
 *		A second opinion on nbmf_json_valid and nbmf_hex_valid.
 *
 * Written from the grammar of RFC 8259, one function for each rule, recursive
 * and a byte at a time, so that it shares neither code nor tricks with
 * src/codec/kind.c.  Unit tests and the fuzzer compare the two.
 */
#ifndef NBMF_TEST_JSON_REFERENCE_H
#define NBMF_TEST_JSON_REFERENCE_H

#include "codec/codec.h"

#include <string.h>

/* What is left of the text; each rule takes its part off the front */
typedef struct JsonText
{
	const char *p;
	size_t len;
} JsonText;

static inline bool
reference_take(JsonText *t, const char *any_of)
{
	if (t->len == 0 || *t->p == '\0' || strchr(any_of, *t->p) == NULL)
		return false;
	t->p++;
	t->len--;
	return true;
}

static inline bool
reference_digits(JsonText *t)
{
	if (!reference_take(t, "0123456789"))
		return false;
	while (reference_take(t, "0123456789"))
		/* more of them */;
	return true;
}

static inline void
reference_space(JsonText *t)
{
	while (reference_take(t, " \t\n\r"))
		/* any number */;
}

/* number = [ minus ] int [ frac ] [ exp ] */
static inline bool
reference_number(JsonText *t)
{
	reference_take(t, "-");
	if (!reference_take(t, "0") && !reference_digits(t))
		return false;
	if (reference_take(t, ".") && !reference_digits(t))
		return false;
	if (reference_take(t, "eE"))
	{
		reference_take(t, "+-");
		return reference_digits(t);
	}
	return true;
}

/* string = quotation-mark *char quotation-mark */
static inline bool
reference_string(JsonText *t)
{
	if (!reference_take(t, "\""))
		return false;
	while (!reference_take(t, "\""))
	{
		if (reference_take(t, "\\"))
		{
			if (reference_take(t, "u"))
			{
				for (int i = 0; i < 4; i++)
					if (!reference_take(t, "0123456789abcdefABCDEF"))
						return false;
			}
			else if (!reference_take(t, "\"\\/bfnrt"))
				return false;
		}
		else
		{
			if (t->len == 0 || (unsigned char) *t->p < 0x20)
				return false;
			t->p++;
			t->len--;
		}
	}
	return true;
}

static inline bool
reference_word(JsonText *t, const char *word)
{
	for (; *word != '\0'; word++)
	{
		char letter[2] = {*word, '\0'};

		if (!reference_take(t, letter))
			return false;
	}
	return true;
}

/* depth is the number of arrays and objects that the value is inside of */
static inline bool
reference_value(JsonText *t, int depth)
{
	bool object;

	if (t->len == 0)
		return false;
	switch (*t->p)
	{
		case '"':
			return reference_string(t);
		case 't':
			return reference_word(t, "true");
		case 'f':
			return reference_word(t, "false");
		case 'n':
			return reference_word(t, "null");
		case '[':
		case '{':
			break;
		default:
			return reference_number(t);
	}

	if (depth >= NBMF_JSON_DEPTH_MAX)
		return false;
	object = *t->p == '{';
	reference_take(t, "[{");
	reference_space(t);
	if (reference_take(t, object ? "}" : "]"))
		return true;
	do
	{
		reference_space(t);
		if (object)
		{
			if (!reference_string(t))
				return false;
			reference_space(t);
			if (!reference_take(t, ":"))
				return false;
			reference_space(t);
		}
		if (!reference_value(t, depth + 1))
			return false;
		reference_space(t);
	} while (reference_take(t, ","));
	return reference_take(t, object ? "}" : "]");
}

static inline bool
reference_json_valid(const void *text, size_t len)
{
	JsonText t = {text, len};

	reference_space(&t);
	if (!reference_value(&t, 0))
		return false;
	reference_space(&t);
	return t.len == 0;
}

static inline bool
reference_hex_valid(const void *text, size_t len)
{
	JsonText t = {text, len};

	if (!reference_take(&t, "\\") || !reference_take(&t, "x"))
		return false;
	while (reference_take(&t, "0123456789abcdef"))
		if (!reference_take(&t, "0123456789abcdef"))
			return false;
	return t.len == 0;
}

#endif /* NBMF_TEST_JSON_REFERENCE_H */
