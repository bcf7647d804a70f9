/*
 * fingerprint_json.h
 *		The features of JSON: its leaves, and the words of its strings.  Compiled
 *		once for each kind of processor, like fingerprint_words.h.
 *
 * A leaf is a scalar, or an empty array or object, with the keys that lead to
 * it; positions in arrays do not count, nor does the order of keys, nor white
 * space, nor whether a string's characters are escaped.  A string of two words
 * or more also gives runs of three words, so that a document with one long
 * text is compared by what the text says and not only by whether it is the
 * same.
 *
 * The scan takes any bytes: whatever is not JSON ends it.  No recursion; a stack of
 * 32 KB for the paths.
 *
 * The file that includes this has defined
 *
 *	BLOCK, plain_bytes(p): how many of so many bytes come before the first '"' or '\\'
 *	sum_64(p, len): nbmf_fp_sum of at most 64 bytes
 *
 * where NBMF_FP_BEHIND bytes can be read behind the text.
 */
#ifndef NBMF_FINGERPRINT_JSON_H
#define NBMF_FINGERPRINT_JSON_H

#define OF_KEY    NBMF_FP_P2
#define OF_STRING NBMF_FP_P3
#define OF_OTHER  NBMF_FP_P4

/* What comes so near the end is copied to where more can be read behind it */
#define TAIL (2 * NBMF_PIECE + 256)

/* A path of an array or object that is open */
typedef struct Open
{
	uint32_t path;
	uint32_t object; /* or array */
} Open;

typedef struct Json
{
	const uint8_t *end;
	const uint8_t *near_end; /* from here on, the rest is to be copied; never, if it is */
	NbmfFeatures *out;
	size_t depth;
	uint32_t path; /* of the value that comes next */
	Open open[NBMF_JSON_DEPTH_MAX];
	Words words;
	uint8_t tail[TAIL + NBMF_FP_BEHIND];
	uint8_t unescaped[NBMF_PIECE + 2 * NBMF_FP_BEHIND];
} Json;

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

/*
 * How many bytes from p on are no '"' and no '\\', or fewer, where that is NBMF_PIECE
 * or more or the end is before.
 */
static inline size_t
find_special(const uint8_t *p, const uint8_t *end)
{
	size_t n = plain_bytes(p);
	size_t i = 0;

	while (n == BLOCK && i < NBMF_PIECE - BLOCK && p + i + BLOCK < end)
	{
		i += BLOCK;
		n = plain_bytes(p + i);
	}
	return n < BLOCK ? i + n : i;
}

/* nbmf_fp_bytes where 64 bytes can be read behind them */
static inline uint64_t
hash_bytes(uint64_t h, const uint8_t *p, size_t len)
{
	size_t i = 0;

	for (; i + 64 < len; i += 64)
		h = nbmf_fp_mix(h ^ sum_64(p + i, 64), NBMF_FP_P1);
	return len > 0 ? nbmf_fp_mix(h ^ sum_64(p + i, len - i), NBMF_FP_P1) : h;
}

static inline uint32_t
hash_string(uint64_t h, const uint8_t *p, size_t len)
{
	return nbmf_fp_ended(hash_bytes(h, p, len), len);
}

/* Copy the rest, so that some bytes more than there are can be read */
static const uint8_t *
copy_tail(Json *j, const uint8_t *p)
{
	size_t len = (size_t) (j->end - p);

	memcpy(j->tail, p, len);
	memset(j->tail + len, 0, NBMF_FP_BEHIND);
	j->end = j->tail + len;
	j->near_end = j->tail + sizeof(j->tail);
	return j->tail;
}

/* With TAIL bytes ahead, or the tail copied, which ends with zeros */
static inline const uint8_t *
look_ahead(Json *j, const uint8_t *p)
{
	return p < j->near_end ? p : copy_tail(j, p);
}

static const uint8_t *
skip_some_space(Json *j, const uint8_t *p)
{
	while (p < j->end && nbmf_fp_class[*p] == NBMF_FP_SPACE)
		p++;
	return look_ahead(j, p);
}

/* Behind white space; p is where bytes can be read */
static inline const uint8_t *
skip_space(Json *j, const uint8_t *p)
{
	return *p > ' ' ? p : skip_some_space(j, p);
}

static inline void
leaf(Json *j, uint32_t value)
{
	nbmf_feature(j->out, nbmf_fp_join(j->path, value, NBMF_FP_LEAF_A, NBMF_FP_LEAF_B));
}

/*
 * The hash of a string of any length and with escapes, which p is behind the quote
 * of, and its words as well if it is no key.  Returns the closing quote, or the
 * end.
 */
static const uint8_t *
any_string(Json *j, const uint8_t *p, bool key, uint32_t *hash)
{
	Words *words = &j->words;
	uint8_t *to = j->unescaped;
	uint64_t h = key ? OF_KEY : OF_STRING;
	uint64_t before = 0;
	size_t n = 0;

	if (!key)
		words_begin(words, j->out, false, j->path);
	for (;;)
	{
		size_t plain;

		p = look_ahead(j, p);
		plain = plain_bytes(p);
		memcpy(to + n, p, BLOCK);
		if (plain > (size_t) (j->end - p))
			plain = (size_t) (j->end - p);
		p += plain;
		n += plain;
		if (plain < BLOCK)
		{
			if (p == j->end || *p == '"')
				break;
			n += unescape(&p, j->end, to + n);
		}
		if (n >= NBMF_PIECE)
		{
			h = hash_bytes(h, to, NBMF_PIECE);
			if (!key)
				words_feed(words, to, NBMF_PIECE);
			before += NBMF_PIECE;
			n -= NBMF_PIECE;
			memmove(to, to + NBMF_PIECE, n);
		}
	}
	memset(to + n, 0, NBMF_FP_BEHIND);
	*hash = nbmf_fp_ended(hash_bytes(h, to, n), before + n);
	if (key)
		return p;
	if (before == 0)
		add_several_words(words, to, n);
	else
	{
		words_feed(words, to, n);
		words_end(words);
		/* that of a single word would be the leaf's again */
		if (words->count == 1)
			j->out->count--;
	}
	return p;
}

/*
 * The hash of the string whose opening quote is at p, and its words as well if it is
 * no key.  Returns what is behind the closing quote, or NULL.  Inlined, or what is
 * asked for either kind costs a fifth more of dense JSON.
 */
static inline __attribute__((always_inline)) const uint8_t *
read_string(Json *j, const uint8_t *p, bool key, uint32_t *hash)
{
	size_t len = find_special(++p, j->end);

	if (p[len] == '"')
	{
		*hash = hash_string(key ? OF_KEY : OF_STRING, p, len);
		if (!key && !is_one_word(p, len))
		{
			words_begin(&j->words, j->out, false, j->path);
			add_several_words(&j->words, p, len);
		}
		p += len;
	}
	else
		p = any_string(j, p, key, hash);
	return p < j->end ? p + 1 : NULL;
}

static inline const uint8_t *
add_key(Json *j, const uint8_t *p)
{
	uint32_t key;

	p = read_string(j, p, true, &key);
	j->path = nbmf_fp_join(j->open[j->depth - 1].path, key, NBMF_FP_MEMBER_A, NBMF_FP_MEMBER_B);
	return p;
}

static inline const uint8_t *
add_string(Json *j, const uint8_t *p)
{
	uint32_t value;

	p = read_string(j, p, false, &value);
	leaf(j, value);
	return p;
}

/* A number, true, false, null, or what else there is instead; NULL if nothing */
static inline const uint8_t *
add_other(Json *j, const uint8_t *p)
{
	const uint8_t *start = p;
	size_t len;

	while (p < j->end && nbmf_fp_class[*p] >= NBMF_FP_APART)
		p++;
	len = (size_t) (p - start);
	if (len == 0)
		return NULL;
	leaf(j, len <= 64 ? hash_string(OF_OTHER, start, len) : nbmf_fp_string(OF_OTHER, start, len));
	return look_ahead(j, p);
}

/*
 * An array or object starts at p: unless it is empty, what comes next is in it.
 * Returns what is behind the bracket, or behind both.
 */
static inline const uint8_t *
add_bracket(Json *j, const uint8_t *p, bool *opened)
{
	const uint8_t open = *p;

	*opened = false;
	p = skip_space(j, p + 1);
	if (*p == open + ('}' - '{'))
	{
		leaf(j, nbmf_fp_string(OF_OTHER, &open, 1));
		return p + 1;
	}
	if (j->depth == NBMF_JSON_DEPTH_MAX)
		return NULL;
	j->open[j->depth].path = j->path;
	j->open[j->depth].object = open == '{';
	j->depth++;
	*opened = true;
	return p;
}

/* The key at p, and the colon; returns what is behind, or NULL */
static inline const uint8_t *
add_member(Json *j, const uint8_t *p)
{
	if (*p != '"')
		return NULL;
	p = add_key(j, p);
	if (p == NULL)
		return NULL;
	p = skip_space(j, p);
	return *p == ':' ? skip_space(j, p + 1) : NULL;
}

/*
 * The next value, and what closes behind it, up to a comma.  Returns what is
 * behind that, or NULL if there is no more JSON.
 */
static inline const uint8_t *
add_value(Json *j, const uint8_t *p)
{
	bool opened = false;

	if (j->depth > 0)
	{
		const Open *top = &j->open[j->depth - 1];

		j->path = top->path;
		if (top->object)
			p = add_member(j, p);
	}
	if (p == NULL)
		return NULL;
	if (*p == '"')
		p = add_string(j, p);
	else if (*p == '{' || *p == '[')
		p = add_bracket(j, p, &opened);
	else
		p = add_other(j, p);
	if (opened)
		return p;

	for (; p != NULL; j->depth--, p++)
	{
		p = skip_space(j, look_ahead(j, p));
		if (j->depth == 0)
			return NULL;
		if (*p == ',')
			return skip_space(j, p + 1);
		if (*p != '}' && *p != ']')
			return NULL;
	}
	return NULL;
}

static void
json_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	Json j;

	j.end = p + len;
	j.near_end = p + (len < TAIL ? 0 : len - TAIL);
	j.out = out;
	j.depth = 0;
	j.path = NBMF_FP_ROOT;

	p = skip_space(&j, look_ahead(&j, p));
	do
		p = add_value(&j, look_ahead(&j, p));
	while (p != NULL);
}

#endif /* NBMF_FINGERPRINT_JSON_H */
