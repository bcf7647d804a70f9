/*
 * fingerprint_json.c
 *		The features of JSON: its leaves, and the words of its strings.
 *
 * A leaf is a scalar, or an empty array or object, with the keys that lead to
 * it; positions in arrays do not count, nor does the order of keys, nor white
 * space, nor whether a string's characters are escaped.  A string of two words
 * or more also gives runs of three words, so that a document with one long
 * text is compared by what the text says and not only by whether it is the
 * same.
 *
 * The scan takes any bytes: whatever is not JSON ends it, and the rest is taken
 * as text.  No recursion; a stack of 32 KB for the paths.
 */
#include "codec/fingerprint.h"

#define OF_KEY    NBMF_FP_P2
#define OF_STRING NBMF_FP_P3
#define OF_OTHER  NBMF_FP_P4

/* Bytes of a string that are unescaped at a time; a multiple of 8 */
#define UNESCAPED 512

typedef struct Json
{
	const uint8_t *p;
	const uint8_t *end;
	NbmfFeatures *out;
	size_t depth;
	bool key;      /* a string would be one */
	uint64_t path; /* of the value that comes next */
	uint64_t in_object[NBMF_JSON_DEPTH_MAX / 64];
	uint64_t paths[NBMF_JSON_DEPTH_MAX]; /* of the open arrays and objects */
	NbmfWords words;
} Json;

static inline bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline void
skip_space(Json *j)
{
	while (j->p < j->end && is_space(*j->p))
		j->p++;
}

/* The bytes of w that equal '"' or '\\': the lowest bit set is of the first (SWAR) */
static inline uint64_t
special_bytes(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t quote = w ^ (ones * '"');
	uint64_t slash = w ^ (ones * '\\');

	return (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & (ones * 0x80);
}

/* The first quote or backslash from p on, or the end */
static inline const uint8_t *
find_special(const uint8_t *p, const uint8_t *end)
{
	for (; end - p >= 8; p += 8)
	{
		uint64_t found = special_bytes(nbmf_load64le(p));

		if (found != 0)
			return p + __builtin_ctzll(found) / 8;
	}
	while (p < end && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* Four hex digits; negative if they are not */
static int32_t
hex4(const uint8_t *p, const uint8_t *end)
{
	int32_t v = 0;

	if (end - p < 4)
		return -1;
	for (unsigned i = 0; i < 4; i++)
	{
		int32_t c = p[i];

		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			c = (c | 0x20) - 'a' + 10;
		else
			return -1;
		v = 16 * v + c;
	}
	return v;
}

static size_t
put_utf8(uint32_t c, uint8_t *dst)
{
	if (c < 0x80)
	{
		dst[0] = (uint8_t) c;
		return 1;
	}
	if (c < 0x800)
	{
		dst[0] = (uint8_t) (0xC0 | c >> 6);
		dst[1] = (uint8_t) (0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000)
	{
		dst[0] = (uint8_t) (0xE0 | c >> 12);
		dst[1] = (uint8_t) (0x80 | (c >> 6 & 0x3F));
		dst[2] = (uint8_t) (0x80 | (c & 0x3F));
		return 3;
	}
	dst[0] = (uint8_t) (0xF0 | c >> 18);
	dst[1] = (uint8_t) (0x80 | (c >> 12 & 0x3F));
	dst[2] = (uint8_t) (0x80 | (c >> 6 & 0x3F));
	dst[3] = (uint8_t) (0x80 | (c & 0x3F));
	return 4;
}

/* Unescape one escape at *p, which is a backslash; at most 4 bytes */
static size_t
unescape(const uint8_t **p, const uint8_t *end, uint8_t *dst)
{
	static const uint8_t from[] = "bfnrt";
	static const uint8_t to[] = "\b\f\n\r\t";
	const uint8_t *at = *p + 1;
	int32_t c;

	if (at == end)
	{
		*p = end;
		return 0;
	}
	c = *at == 'u' ? hex4(at + 1, end) : -1;
	if (c < 0)
	{
		dst[0] = *at;
		for (unsigned i = 0; i < 5; i++)
			if (*at == from[i])
				dst[0] = to[i];
		*p = at + 1;
		return 1;
	}
	at += 5;
	if (c >= 0xD800 && c < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u')
	{
		int32_t low = hex4(at + 2, end);

		if (low >= 0xDC00 && low < 0xE000)
		{
			c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
			at += 6;
		}
	}
	*p = at;
	return put_utf8((uint32_t) c, dst);
}

/* A string with escapes, as far as it is resolved */
typedef struct Unescaped
{
	NbmfWords *words; /* NULL if it is a key */
	uint64_t hash;
	uint64_t len;
	size_t n;
	uint8_t buf[UNESCAPED];
} Unescaped;

static void
flush_unescaped(Unescaped *u)
{
	u->hash = nbmf_fp_bytes(u->hash, u->buf, u->n);
	if (u->words != NULL)
		nbmf_words_feed(u->words, u->buf, u->n);
	u->len += u->n;
	u->n = 0;
}

static void
add_unescaped(Unescaped *u, const uint8_t *p, size_t len)
{
	while (len > 0)
	{
		size_t n = UNESCAPED - u->n;

		n = n < len ? n : len;
		memcpy(u->buf + u->n, p, n);
		u->n += n;
		p += n;
		len -= n;
		if (u->n == UNESCAPED)
			flush_unescaped(u);
	}
}

/*
 * The hash of a string with escapes, which p is behind the quote of, and its
 * words as well if it is no key.  Ends at the closing quote.
 */
static uint64_t
escaped_string(Json *j, const uint8_t *p, uint64_t h, bool key)
{
	Unescaped u;

	u.words = key ? NULL : &j->words;
	u.hash = h;
	u.len = 0;
	u.n = 0;
	for (;;)
	{
		const uint8_t *special = find_special(p, j->end);
		uint8_t c[4];
		size_t n;

		add_unescaped(&u, p, (size_t) (special - p));
		p = special;
		if (p == j->end || *p == '"')
			break;
		n = unescape(&p, j->end, c);
		add_unescaped(&u, c, n);
	}
	flush_unescaped(&u);
	j->p = p;
	return nbmf_fp_mix(u.hash ^ u.len, NBMF_FP_P5);
}

static inline void
leaf(Json *j, uint64_t value)
{
	nbmf_feature(j->out, (j->path * NBMF_FP_P2) ^ value);
}

static inline bool
is_single_word(const Json *j, const uint8_t *p, size_t len)
{
#ifdef NBMF_FP_AVX2
	if (j->out->simd && len <= 32 && j->end - p >= 32)
		return nbmf_is_single_word_avx2(p, len);
#else
	(void) j;
#endif
	return nbmf_is_single_word(p, len);
}

/* p is at the opening quote; ends behind the closing one, false if there is none */
static bool
add_string(Json *j)
{
	bool key = j->key;
	const uint8_t *start = j->p + 1;
	const uint8_t *special = find_special(start, j->end);
	size_t len = (size_t) (special - start);
	uint64_t h;

	bool words = false;

	if (special < j->end && *special == '"')
	{
		h = nbmf_fp_string_within(key ? OF_KEY : OF_STRING, start, len, j->end);
		j->p = special;
		words = !key && !is_single_word(j, start, len);
		if (words)
		{
			nbmf_words_begin(&j->words, j->out, false, j->path);
			nbmf_words_feed(&j->words, start, len);
		}
	}
	else
	{
		words = !key;
		if (words)
			nbmf_words_begin(&j->words, j->out, false, j->path);
		h = escaped_string(j, start, key ? OF_KEY : OF_STRING, key);
	}

	if (j->p == j->end)
		return false;
	j->p++;
	j->key = false;
	if (key)
		j->path = nbmf_fp_mix((j->paths[j->depth - 1] * NBMF_FP_P2) ^ h, NBMF_FP_P4);
	else
	{
		/* the feature of a single word would be that of the leaf again */
		if (words && nbmf_words_end(&j->words) == 1)
			j->out->count--;
		leaf(j, h);
	}
	return true;
}

/* A number, true, false, null, or what else there is instead */
static bool
add_other(Json *j)
{
	const uint8_t *start = j->p;

	while (j->p < j->end && !is_space(*j->p) && *j->p != ',' && *j->p != ']' && *j->p != '}' &&
		   *j->p != ':' && *j->p != '"' && *j->p != '[' && *j->p != '{')
		j->p++;
	if (j->p == start)
		return false;
	leaf(j, nbmf_fp_string_within(OF_OTHER, start, (size_t) (j->p - start), j->end));
	return true;
}

static inline bool
top_is_object(const Json *j)
{
	size_t top = j->depth - 1;

	return (j->in_object[top / 64] >> (top % 64)) & 1;
}

/* At '{' or '[' */
static bool
add_open(Json *j)
{
	const uint8_t *open = j->p++;
	bool object = *open == '{';
	uint64_t bit = UINT64_C(1) << (j->depth % 64);

	skip_space(j);
	if (j->p < j->end && *j->p == (object ? '}' : ']'))
	{
		j->p++;
		leaf(j, nbmf_fp_string(OF_OTHER, open, 1));
		return true;
	}
	if (j->depth == NBMF_JSON_DEPTH_MAX)
		return false;
	if (object)
		j->in_object[j->depth / 64] |= bit;
	else
		j->in_object[j->depth / 64] &= ~bit;
	j->paths[j->depth++] = j->path;
	j->key = object;
	return true;
}

static bool
add_close(Json *j)
{
	if (j->depth == 0)
		return false;
	j->p++;
	j->depth--;
	j->key = false;
	return true;
}

static bool
add_comma(Json *j)
{
	if (j->depth == 0)
		return false;
	j->p++;
	j->key = top_is_object(j);
	j->path = j->paths[j->depth - 1];
	return true;
}

static bool
add_token(Json *j)
{
	switch (*j->p)
	{
		case '{':
		case '[':
			return add_open(j);
		case '}':
		case ']':
			return add_close(j);
		case ',':
			return add_comma(j);
		case ':':
			j->p++;
			return true;
		case '"':
			return add_string(j);
		default:
			return add_other(j);
	}
}

void
nbmf_json_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	Json j;

	j.p = p;
	j.end = p + len;
	j.out = out;
	j.depth = 0;
	j.key = false;
	j.path = NBMF_FP_P5;

	do
		skip_space(&j);
	while (j.p < j.end && add_token(&j));
	if (j.p < j.end)
	{
		nbmf_words_begin(&j.words, out, true, NBMF_FP_P5);
		nbmf_words_feed(&j.words, j.p, (size_t) (j.end - j.p));
		nbmf_words_end(&j.words);
	}
}
