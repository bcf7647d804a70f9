/*
 * fingerprint_words.c
 *		Cutting text into words, and words into features.
 *
 * A word is a run of letters, digits, underscores and bytes from 0x80 on, in
 * lower case as far as ASCII goes; an ideograph or kana is a word of its own,
 * punctuation beyond ASCII is none.  The rules look at bytes, as UTF-8, and at
 * no more than three of them before the one in question, so that any bytes have
 * words and a text can be cut into pieces.
 *
 * A piece is copied, scanned for the places where words begin and end (the part
 * that SIMD does), and then the words are hashed one by one, without a branch
 * that depends on where they are.
 */
#include "codec/fingerprint.h"

/* Classes of bytes */
enum
{
	APART = 0, /* is no part of a word */
	PART,      /* is part of a word */
	TWO,       /* is none, nor is the byte behind it: U+0080 to U+00BF */
	THREE,     /* is none, nor are two bytes behind it: U+2000 to U+2FFF */
	LEAD       /* starts a word of three bytes: U+3000 to U+9FFF, U+F000 to U+FFFF */
};

/* The class of each byte */
static const uint8_t byte_class[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0,
	0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1,
	0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
	1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 3, 4, 4, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
};

/* Marks of whole blocks; ASCII letters become lower case */
static size_t
scan_portable(uint8_t *buf, size_t blocks, NbmfCarry carry, uint16_t *marks)
{
	uint64_t last = 0;
	size_t n = 0;

	for (size_t b = 0; b < blocks; b++)
	{
		uint64_t mask[5] = {0};

		for (unsigned i = 0; i < 64; i++)
		{
			uint8_t *c = &buf[64 * b + i];

			mask[byte_class[*c]] |= UINT64_C(1) << i;
			if (*c >= 'A' && *c <= 'Z')
				*c |= 0x20;
		}
		n += nbmf_words_mark(mask[PART] | mask[LEAD], mask[TWO], mask[THREE], mask[LEAD],
							 (unsigned) (64 * b), &carry, &last, marks + n);
	}
	return n;
}

static size_t
scan(NbmfWords *words, size_t blocks)
{
#ifdef NBMF_FP_AVX2
	if (words->out->simd)
		return nbmf_words_scan_avx2(words->buf, blocks, words->carry, words->marks);
#endif
	return scan_portable(words->buf, blocks, words->carry, words->marks);
}

/* What the bytes before buf[at] say of those from there on */
static NbmfCarry
carry_at(const uint8_t *buf, size_t at)
{
	NbmfCarry carry = {0, 0};

	for (size_t back = 1; back <= 3 && back <= at; back++)
	{
		unsigned class = byte_class[buf[at - back]];

		if (class == THREE && back <= 2)
			carry.apart |= back == 1 ? 3 : 1;
		if (class == TWO && back == 1)
			carry.apart |= 1;
		if (class == LEAD)
			carry.start |= UINT64_C(1) << (3 - back);
	}
	return carry;
}

/* The first bytes of 8 */
static const uint64_t first_bytes[9] = {0,
										UINT64_C(0xFF),
										UINT64_C(0xFFFF),
										UINT64_C(0xFFFFFF),
										UINT64_C(0xFFFFFFFF),
										UINT64_C(0xFFFFFFFFFF),
										UINT64_C(0xFFFFFFFFFFFF),
										UINT64_C(0xFFFFFFFFFFFFFF),
										~UINT64_C(0)};

static inline uint64_t
word_hash(const uint8_t *p, size_t len)
{
	uint64_t h = 0;

	for (; len > 8; p += 8, len -= 8)
		h = nbmf_fp_mix(h ^ nbmf_load64le(p), NBMF_FP_P1);
	h = nbmf_fp_mix(h ^ (nbmf_load64le(p) & first_bytes[len]), NBMF_FP_P1);
	return nbmf_fp_mix(h, NBMF_FP_P5);
}

/* Is this surely not more than one word?  Looks no further than it needs to. */
bool
nbmf_is_single_word(const uint8_t *p, size_t len)
{
	if (len > NBMF_WORD_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (byte_class[p[i]] != PART)
			return false;
	return true;
}

/* One word, with what is different at the start of a text and in JSON */
static void
add_word(NbmfWords *words, const uint8_t *p, size_t len)
{
	uint64_t h = word_hash(p, len);
	uint64_t pair = words->one_back ^ h;

	/* the first word makes a pair with what stands before the text */
	if (words->pairs || words->count == 0)
		nbmf_feature(words->out, pair);
	if (words->count >= 2)
		nbmf_feature(words->out, words->two_back ^ pair);
	else
		words->count++;
	words->two_back = words->one_next;
	words->one_back = h * NBMF_FP_P2;
	words->one_next = h * NBMF_FP_P3;
}

/*
 * The same for words of a text from the third on, none of them too long: from
 * marks up to last.  There is room for their features.
 */
static void
add_plain_words(NbmfWords *words, const uint16_t *marks, const uint16_t *last)
{
	const uint8_t *buf = words->buf;
	uint64_t one_back = words->one_back;
	uint64_t one_next = words->one_next;
	uint64_t two_back = words->two_back;
	uint64_t *to = words->out->waiting + words->out->count;

	words->out->count += (size_t) (last - marks);
	for (; marks < last; marks += 2, to += 2)
	{
		uint64_t h = word_hash(buf + marks[0], (size_t) (marks[1] - marks[0]));
		uint64_t pair = one_back ^ h;

		to[0] = nbmf_fp_mix(pair, NBMF_FP_P4);
		to[1] = nbmf_fp_mix(two_back ^ pair, NBMF_FP_P4);
		two_back = one_next;
		one_back = h * NBMF_FP_P2;
		one_next = h * NBMF_FP_P3;
	}
	words->one_back = one_back;
	words->one_next = one_next;
	words->two_back = two_back;
}

/* The words between count marks */
static void
add_marked(NbmfWords *words, size_t count, bool cut)
{
	const uint16_t *mark = words->marks;
	const uint16_t *end = mark + count;

	while (mark < end)
	{
		if (words->pairs && words->count >= 2 && !cut)
		{
			const uint16_t *last;

			if (words->out->count > NBMF_FEATURES_MAX - 2)
				nbmf_features_flush(words->out);
			last = mark + (NBMF_FEATURES_MAX - words->out->count) / 2 * 2;
			last = last < end ? last : end;
			add_plain_words(words, mark, last);
			mark = last;
		}
		else
		{
			size_t start = mark[0];

			for (; mark[1] - start > NBMF_WORD_MAX; start += NBMF_WORD_MAX)
				add_word(words, words->buf + start, NBMF_WORD_MAX);
			add_word(words, words->buf + start, mark[1] - start);
			mark += 2;
		}
	}
}

/*
 * Start cutting a text into words.  "before" stands for the words before the
 * first one.
 */
void
nbmf_words_begin(NbmfWords *words, NbmfFeatures *out, bool pairs, uint64_t before)
{
	words->out = out;
	words->pairs = pairs;
	words->carry.apart = 0;
	words->carry.start = 0;
	words->len = 0;
	words->count = 0;
	words->one_back = before * NBMF_FP_P2;
	words->one_next = 0;
	words->two_back = 0;
}

/* Is any word longer than a word may be? */
static bool
has_long(const uint16_t *marks, size_t count)
{
	unsigned most = 0;

	for (size_t i = 0; i < count; i += 2)
	{
		unsigned len = (unsigned) (marks[i + 1] - marks[i]);

		most = len > most ? len : most;
	}
	return most > NBMF_WORD_MAX;
}

/* The words in the buffer; unless it is final, the last one stays if it may go on */
static void
add_words(NbmfWords *words, bool final)
{
	size_t blocks = (words->len + 63) / 64;
	size_t keep = words->len;
	size_t n;

	/* so that a word at the end is ended, and can be loaded in steps of 8 */
	memset(words->buf + words->len, 0, 64 * blocks - words->len + 8);
	n = scan(words, blocks);
	if (n % 2 != 0)
		words->marks[n++] = (uint16_t) words->len; /* ends with the last block */
	if (!final && n > 0 && words->marks[n - 1] == words->len)
	{
		/* leave the word, or what is left of it when it is cut */
		size_t start = words->marks[n - 2];

		keep = start + (words->len - start - 1) / NBMF_WORD_MAX * NBMF_WORD_MAX;
		if (keep > start)
			words->marks[n - 1] = (uint16_t) keep;
		else
			n -= 2;
	}
	add_marked(words, n, has_long(words->marks, n));

	if (!final)
	{
		words->carry = carry_at(words->buf, keep);
		memmove(words->buf, words->buf + keep, words->len - keep);
		words->len -= keep;
	}
}

void
nbmf_words_feed(NbmfWords *words, const uint8_t *p, size_t len)
{
	while (len > 0)
	{
		size_t n = NBMF_PIECE - words->len;

		if (n == 0)
		{
			add_words(words, false);
			continue;
		}
		if (n > len)
			n = len;
		memcpy(words->buf + words->len, p, n);
		words->len += n;
		p += n;
		len -= n;
	}
}

/*
 * No more text.  Returns how many words there were, or 2 if there were more.
 */
unsigned
nbmf_words_end(NbmfWords *words)
{
	add_words(words, true);
	return words->count;
}

void
nbmf_text_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	NbmfWords words;

	nbmf_words_begin(&words, out, true, NBMF_FP_P5);
	nbmf_words_feed(&words, p, len);
	nbmf_words_end(&words);
}
