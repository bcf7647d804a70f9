/*
 * fingerprint_words.h
 *		Cutting text into words, and words into features.  Compiled once for each
 *		kind of processor, by fingerprint_plain.c, _avx2.c, _avx512.c and _neon.c.
 *
 * A word is a run of letters, digits, underscores and bytes from 0x80 on, in
 * lower case as far as ASCII goes; an ideograph or kana is a word of its own,
 * punctuation beyond ASCII is none.  The rules look at bytes, as UTF-8, and at
 * no more than three of them before the one in question, so that any bytes have
 * words and a text can be cut into pieces.
 *
 * A piece is scanned for the places where words begin and end, in blocks of 64
 * bytes, and then the words are hashed, several at a time where there is SIMD.  The
 * file that includes this has defined
 *
 *	block_masks(p, within): the masks of 64 bytes, of which those within count
 *	put_marks(bits, base, marks): the numbers of the bits that are set, plus base;
 *		returns how many that are, may write NBMF_MARKS_SPARE more
 *	hash_words(p, marks, count, pairs, before, to): the features of count words,
 *		up to the first that is too long; returns how many words that are
 *
 * NBMF_FP_BEHIND bytes can be read behind the text, NBMF_WORDS_SPARE words behind
 * the last one, and as many features as those have written behind the last.
 */
#ifndef NBMF_FINGERPRINT_WORDS_H
#define NBMF_FINGERPRINT_WORDS_H

/*
 * The marks of a block of 64 bytes: the first byte of each word and the byte
 * behind each, in turns.  The masks have a bit for each byte: word, could be
 * part of a word; two and three, begins a character of so many bytes that is
 * none; lead, begins a character of three bytes that is a word.
 */
static inline size_t
mark_block(const NbmfMasks *m, unsigned base, NbmfCarry *carry, uint64_t *last, uint16_t *marks)
{
	const uint64_t two = m->two;
	const uint64_t three = m->three;
	const uint64_t lead = m->lead;
	uint64_t inside = m->word & ~(((two | three) << 1) | (three << 2) | carry->apart);
	uint64_t before = (inside << 1) | *last; /* the byte before is a word byte */
	size_t n = 0;

	if ((lead | carry->start) == 0)
		n = put_marks(inside ^ before, base, marks);
	else
	{
		uint64_t cut = inside & before & (lead | (lead << 3) | carry->start);

		for (uint64_t edges = (inside ^ before) | cut; edges != 0; edges &= edges - 1)
		{
			unsigned at = (unsigned) __builtin_ctzll(edges);

			marks[n++] = (uint16_t) (base + at);
			if ((cut >> at) & 1)
				marks[n++] = (uint16_t) (base + at);
		}
	}
	carry->apart = ((two | three) >> 63) | (three >> 62);
	carry->start = lead >> 61;
	*last = inside >> 63;
	return n;
}

/* Text being cut into words */
typedef struct Words
{
	NbmfFeatures *out;
	bool pairs; /* features of two words too */
	NbmfBefore before;
	uint64_t count;  /* words so far */
	NbmfCarry carry; /* for the first byte of buf */
	size_t len;      /* bytes in buf */
	uint8_t buf[NBMF_PIECE + NBMF_FP_BEHIND];
	uint16_t marks[NBMF_MARKS_MAX];
} Words;

/*
 * Start cutting a text into words.  "before" stands for the words before the
 * first one.
 */
static inline void
words_begin(Words *words, NbmfFeatures *out, bool pairs, uint32_t before)
{
	words->out = out;
	words->pairs = pairs;
	words->before.word = before;
	words->before.pair = before;
	words->count = 0;
	words->carry.apart = 0;
	words->carry.start = 0;
	words->len = 0;
}

/* The features of count words of p, none of them too long, or up to one that is */
static size_t
add_short_words(Words *words, const uint8_t *p, const uint16_t *marks, size_t count)
{
	NbmfFeatures *out = words->out;
	size_t each = words->pairs ? 2 : 1;
	size_t done = 0;

	for (;;)
	{
		size_t room = (NBMF_FEATURES_MAX - out->count) / each;
		size_t n = count - done < room ? count - done : room;
		size_t hashed = hash_words(p, marks + 2 * done, n, words->pairs, &words->before,
								   out->waiting + out->count);

		out->count += each * hashed;
		done += hashed;
		if (hashed < n || done == count)
			break;
		nbmf_features_flush(out);
	}
	words->count += done;
	return done;
}

/* One word that is too long, in pieces */
static void
add_long_word(Words *words, const uint8_t *p, unsigned start, unsigned end)
{
	for (; start < end; start += NBMF_WORD_MAX)
	{
		unsigned len = end - start < NBMF_WORD_MAX ? end - start : NBMF_WORD_MAX;
		uint16_t marks[2 + 2 * NBMF_WORDS_SPARE] = {(uint16_t) start, (uint16_t) (start + len)};

		add_short_words(words, p, marks, 1);
	}
}

/* The words between n marks */
static void
add_marked(Words *words, const uint8_t *p, uint16_t *marks, size_t n)
{
	/* where several words are hashed at a time, what follows the last one is too */
	memset(marks + n, 0, 2 * NBMF_WORDS_SPARE * sizeof(*marks));
	for (size_t i = 0; i < n / 2; i++)
	{
		i += add_short_words(words, p, marks + 2 * i, n / 2 - i);
		if (i < n / 2)
			add_long_word(words, p, marks[2 * i], marks[2 * i + 1]);
	}
}

/* The marks of len bytes; what is inside a word at the end ends there */
static inline size_t
mark_words(const Words *words, const uint8_t *p, size_t len, uint16_t *marks)
{
	NbmfCarry carry = words->carry;
	uint64_t last = 0;
	size_t n = 0;

	for (size_t at = 0; at < len; at += 64)
	{
		uint64_t within = nbmf_fp_lowest(len - at < 64 ? len - at : 64);
		NbmfMasks masks = block_masks(p + at, within);

		n += mark_block(&masks, (unsigned) at, &carry, &last, marks + n);
	}
	if (n % 2 != 0)
		marks[n++] = (uint16_t) len;
	return n;
}

/* Are there surely not two words in a text with NBMF_FP_BEHIND bytes behind it? */
static inline bool
is_one_word(const uint8_t *p, size_t len)
{
	NbmfMasks masks;
	uint64_t starts;

	if (len - 1 >= 64)
		return len == 0;
	masks = block_masks(p, nbmf_fp_lowest(len));
	starts = masks.word & ~(masks.word << 1);
	return (starts & (starts - 1)) == 0 && (masks.two | masks.three | masks.lead) == 0;
}

/*
 * The words of a whole text of at most NBMF_PIECE bytes, with NBMF_FP_BEHIND
 * bytes behind it; but no features of a text of one word.
 */
static void
add_several_words(Words *words, const uint8_t *p, size_t len)
{
	NbmfFeatures *out = words->out;
	uint16_t *marks = words->marks;
	size_t n = mark_words(words, p, len, marks);

	if (n < 2 || (n == 2 && marks[1] - marks[0] <= NBMF_WORD_MAX))
		return;
	if (len > NBMF_WORD_MAX || out->count > NBMF_FEATURES_MAX - NBMF_WORD_MAX)
	{
		add_marked(words, p, marks, n);
		return;
	}
	/* there is room, and no word is too long */
	memset(marks + n, 0, 2 * NBMF_WORDS_SPARE * sizeof(*marks));
	out->count += hash_words(p, marks, n / 2, false, &words->before, out->waiting + out->count);
}

/* What the bytes before buf[at] say of those from there on */
static NbmfCarry
carry_at(const uint8_t *buf, size_t at)
{
	NbmfCarry carry = {0, 0};

	for (size_t back = 1; back <= 3 && back <= at; back++)
	{
		unsigned class = nbmf_fp_class[buf[at - back]];

		if (class == NBMF_FP_THREE && back <= 2)
			carry.apart |= back == 1 ? 3 : 1;
		if (class == NBMF_FP_TWO && back == 1)
			carry.apart |= 1;
		if (class == NBMF_FP_LEAD)
			carry.start |= UINT64_C(1) << (3 - back);
	}
	return carry;
}

/* The words in the buffer; unless it is final, the last one stays if it may go on */
static void
add_buffer(Words *words, bool final)
{
	uint16_t *marks = words->marks;
	size_t keep = words->len;
	size_t n;

	memset(words->buf + words->len, 0, NBMF_FP_BEHIND);
	n = mark_words(words, words->buf, words->len, marks);

	if (!final && n > 0 && marks[n - 1] == words->len)
	{
		/* leave the word, or what is left of it when it is cut */
		size_t start = marks[n - 2];

		keep = start + (words->len - start - 1) / NBMF_WORD_MAX * NBMF_WORD_MAX;
		if (keep > start)
			marks[n - 1] = (uint16_t) keep;
		else
			n -= 2;
	}
	add_marked(words, words->buf, marks, n);

	if (!final)
	{
		words->carry = carry_at(words->buf, keep);
		memmove(words->buf, words->buf + keep, words->len - keep);
		words->len -= keep;
	}
}

static void
words_feed(Words *words, const uint8_t *p, size_t len)
{
	while (len > 0)
	{
		size_t n = NBMF_PIECE - words->len;

		if (n == 0)
		{
			add_buffer(words, false);
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

/* No more text */
static void
words_end(Words *words)
{
	add_buffer(words, true);
}

static void
text_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	Words words;

	words_begin(&words, out, true, NBMF_FP_ROOT);
	words_feed(&words, p, len);
	words_end(&words);
}

#endif /* NBMF_FINGERPRINT_WORDS_H */
