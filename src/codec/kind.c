/*
 * kind.c
 *		What kind a text is.
 *
 * A value's kind follows from its text alone, so that dump and restore,
 * replication and casts give the same value back.  That makes these functions
 * part of the format: they are frozen, and pinned by test/unit.  It is also
 * why JSON is recognised here rather than by the server's parser, whose limits
 * depend on the stack and on settings.
 *
 * "Valid JSON" is RFC 8259 as PostgreSQL's json type reads it: any value at
 * the top level, \u escapes checked for four hex digits but not for pairing,
 * no bytes below 0x20 in strings, bytes from 0x80 on taken as they are (the
 * server has checked the encoding; all its encodings are ASCII-safe).
 * Everything accepted here is accepted by json_in, save for deep nesting with
 * a small max_stack_depth.
 */
#include "codec/codec.h"

#include <string.h>

typedef struct JsonScan
{
	const uint8_t *p;
	const uint8_t *end;
	uint32_t depth;
	uint64_t in_object[NBMF_JSON_DEPTH_MAX / 64]; /* a bit per open level */
} JsonScan;

static inline void
skip_space(JsonScan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static inline bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_hex(uint8_t c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Does any byte of w equal '"' or '\\', or lie below 0x20? (SWAR test) */
static inline bool
word_is_special(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	const uint64_t high = UINT64_C(0x8080808080808080);
	uint64_t quote = w ^ (ones * '"');
	uint64_t slash = w ^ (ones * '\\');

	return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) &
		   high;
}

/* p is at the opening quote; ends behind the closing one */
static bool
scan_string(JsonScan *s)
{
	const uint8_t *p = s->p + 1;
	const uint8_t *end = s->end;

	for (;;)
	{
		while (end - p >= 8)
		{
			uint64_t w;

			memcpy(&w, p, sizeof(w));
			if (word_is_special(w))
				break;
			p += 8;
		}
		while (p < end && *p != '"' && *p != '\\' && *p >= 0x20)
			p++;
		if (p == end || *p < 0x20)
			return false;
		if (*p == '"')
		{
			s->p = p + 1;
			return true;
		}
		if (end - p < 2)
			return false;
		p++;
		switch (*p)
		{
			case '"':
			case '\\':
			case '/':
			case 'b':
			case 'f':
			case 'n':
			case 'r':
			case 't':
				p++;
				break;
			case 'u':
				if (end - p < 5 || !is_hex(p[1]) || !is_hex(p[2]) || !is_hex(p[3]) || !is_hex(p[4]))
					return false;
				p += 5;
				break;
			default:
				return false;
		}
	}
}

static bool
scan_digits(JsonScan *s)
{
	const uint8_t *start = s->p;

	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	return s->p > start;
}

static bool
scan_number(JsonScan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!scan_digits(s))
		return false;
	if (s->p < s->end && *s->p == '.')
	{
		s->p++;
		if (!scan_digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E'))
	{
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!scan_digits(s))
			return false;
	}
	return true;
}

static bool
scan_word(JsonScan *s, const char *word, size_t len)
{
	if ((size_t) (s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

static bool
scan_scalar(JsonScan *s)
{
	switch (*s->p)
	{
		case '"':
			return scan_string(s);
		case 't':
			return scan_word(s, "true", 4);
		case 'f':
			return scan_word(s, "false", 5);
		case 'n':
			return scan_word(s, "null", 4);
		default:
			return scan_number(s);
	}
}

/* "key" : -- p may be at white space */
static bool
scan_key(JsonScan *s)
{
	skip_space(s);
	if (s->p == s->end || *s->p != '"' || !scan_string(s))
		return false;
	skip_space(s);
	if (s->p == s->end || *s->p != ':')
		return false;
	s->p++;
	return true;
}

static inline bool
top_is_object(const JsonScan *s)
{
	uint32_t top = s->depth - 1;

	return (s->in_object[top / 64] >> (top % 64)) & 1;
}

/* Open a level at '{' or '['; *empty says that it was closed at once */
static bool
scan_open(JsonScan *s, bool *empty)
{
	bool object = *s->p++ == '{';
	uint64_t bit = UINT64_C(1) << (s->depth % 64);

	if (s->depth == NBMF_JSON_DEPTH_MAX)
		return false;
	skip_space(s);
	*empty = s->p < s->end && *s->p == (object ? '}' : ']');
	if (*empty)
	{
		s->p++;
		return true;
	}
	if (object)
		s->in_object[s->depth / 64] |= bit;
	else
		s->in_object[s->depth / 64] &= ~bit;
	s->depth++;
	return object ? scan_key(s) : true;
}

/*
 * Is the text one JSON value, with nothing but white space around it?
 * Linear in len; no recursion, 512 bytes of state.
 */
bool
nbmf_json_valid(const void *text, size_t len)
{
	JsonScan s;

	s.p = text;
	s.end = s.p + len;
	s.depth = 0;

	for (;;)
	{
		bool complete = true;

		/* a value */
		skip_space(&s);
		if (s.p == s.end)
			return false;
		if (*s.p == '{' || *s.p == '[')
		{
			if (!scan_open(&s, &complete))
				return false;
		}
		else if (!scan_scalar(&s))
			return false;
		if (!complete)
			continue;

		/* behind a value: close levels until another value must follow */
		for (;;)
		{
			bool object;

			skip_space(&s);
			if (s.depth == 0)
				return s.p == s.end;
			if (s.p == s.end)
				return false;
			object = top_is_object(&s);
			if (*s.p == ',')
			{
				s.p++;
				if (object && !scan_key(&s))
					return false;
				break;
			}
			if (*s.p != (object ? '}' : ']'))
				return false;
			s.p++;
			s.depth--;
		}
	}
}

/*
 * Is the text exactly what bytea's hex output looks like: \x, then pairs of
 * digits 0-9a-f?  (Upper case is not: it would come out changed.)
 */
bool
nbmf_hex_valid(const void *text, size_t len)
{
	const uint8_t *p = text;

	if (len < 2 || len % 2 != 0 || p[0] != '\\' || p[1] != 'x')
		return false;
	for (size_t i = 2; i < len; i++)
		if (!is_digit(p[i]) && !(p[i] >= 'a' && p[i] <= 'f'))
			return false;
	return true;
}
