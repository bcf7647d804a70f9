/*
 * fingerprint.h
 *		What the files of the fingerprint share.  Not for other rooms, which
 *		include codec.h.
 *
 * Content is turned into features, 64-bit hashes that stand for words, leaves
 * or runs of bytes; a consumer takes them in batches, in any order and with
 * repetitions.  Every number below is frozen: see docs/format.md, section 11.
 */
#ifndef NBMF_FINGERPRINT_H
#define NBMF_FINGERPRINT_H

#include "codec/bytes.h"
#include "codec/codec.h"

#include <string.h>

#define NBMF_FP_P1 UINT64_C(0x9E3779B185EBCA87)
#define NBMF_FP_P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define NBMF_FP_P3 UINT64_C(0x165667B19E3779F9)
#define NBMF_FP_P4 UINT64_C(0x85EBCA77C2B2AE63)
#define NBMF_FP_P5 UINT64_C(0x27D4EB2F165667C5)

#if defined(__x86_64__) && defined(__GNUC__)
#define NBMF_FP_AVX2 1
#endif

#define NBMF_FEATURES_MAX 512

/* Features on their way to a consumer */
typedef struct NbmfFeatures
{
	void (*take)(void *state, const uint64_t *features, size_t count);
	void *state;
	bool simd;    /* may use what the processor has */
	uint64_t any; /* features taken so far, not counting those waiting */
	size_t count; /* waiting */
	uint64_t waiting[NBMF_FEATURES_MAX];
} NbmfFeatures;

/* Words are cut at this many bytes */
#define NBMF_WORD_MAX 64

/* Text is cut into words in pieces of so many bytes, in blocks of 64 */
#define NBMF_PIECE 1024

/* Where words begin and end: at most two marks a byte, and one at the end */
#define NBMF_MARKS_MAX (2 * (NBMF_PIECE + 64) + 2)

/* What the bytes just before a piece say of its first ones */
typedef struct NbmfCarry
{
	uint64_t apart; /* bits 0, 1: these bytes are no word bytes */
	uint64_t start; /* bits 0 to 2: a word starts here, if this is one */
} NbmfCarry;

/* Text being cut into words */
typedef struct NbmfWords
{
	NbmfFeatures *out;
	bool pairs;        /* features of two words too */
	NbmfCarry carry;   /* for the first byte of buf */
	size_t len;        /* bytes in buf */
	unsigned count;    /* words so far, not counting beyond 2 */
	uint64_t one_back; /* hash of the last word, times P2 */
	uint64_t two_back; /* of the one before it, times P3 */
	uint64_t one_next; /* of the last word, times P3 */
	uint8_t buf[NBMF_PIECE + 64 + 8];
	uint16_t marks[NBMF_MARKS_MAX];
} NbmfWords;

/* fingerprint.c */
extern void nbmf_features_flush(NbmfFeatures *out);
extern void nbmf_features(NbmfFeatures *out, NbmfKind kind, const void *content, size_t len);
extern bool nbmf_fp_simd(void);

/* fingerprint_words.c */
extern void nbmf_words_begin(NbmfWords *words, NbmfFeatures *out, bool pairs, uint64_t before);
extern void nbmf_words_feed(NbmfWords *words, const uint8_t *p, size_t len);
extern unsigned nbmf_words_end(NbmfWords *words);
extern bool nbmf_is_single_word(const uint8_t *p, size_t len);
extern void nbmf_text_features(NbmfFeatures *out, const uint8_t *p, size_t len);

/* fingerprint_json.c */
extern void nbmf_json_features(NbmfFeatures *out, const uint8_t *p, size_t len);

/* fingerprint_vector.c */
extern uint32_t nbmf_vector_scale(const uint8_t *p, size_t count);
extern void nbmf_vector_integers(const uint8_t *p, size_t count, uint32_t scale, int32_t *out);
extern void nbmf_vector_fingerprint(const uint8_t *p, size_t len, bool simd, NbmfFingerprint *out);

/* fingerprint_avx2.c */
#ifdef NBMF_FP_AVX2
extern size_t nbmf_words_scan_avx2(uint8_t *buf, size_t blocks, NbmfCarry carry, uint16_t *marks);
extern bool nbmf_is_single_word_avx2(const uint8_t *p, size_t len);
extern uint64_t nbmf_bins_read_avx2(const uint64_t *least, uint64_t *full);
extern void nbmf_vector_block_avx2(const int32_t *q, const uint64_t *signs, int64_t *sums);
#endif

/*
 * The marks of a block of 64 bytes: the first byte of each word and the byte
 * behind each, in turns.  The masks have a bit for each byte: word, could be
 * part of a word; two and three, begins a character of so many bytes that is
 * none; lead, begins a character of three bytes that is a word.
 */
static inline size_t
nbmf_words_mark(uint64_t word, uint64_t two, uint64_t three, uint64_t lead, unsigned base,
				NbmfCarry *carry, uint64_t *last, uint16_t *marks)
{
	uint64_t inside = word & ~(((two | three) << 1) | (three << 2) | carry->apart);
	uint64_t before = (inside << 1) | *last; /* the byte before is a word byte */
	size_t n = 0;

	if ((lead | carry->start) == 0)
		for (uint64_t edges = inside ^ before; edges != 0; edges &= edges - 1)
			marks[n++] = (uint16_t) (base + (unsigned) __builtin_ctzll(edges));
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

/* One multiplication and a shift: what everything here is hashed with */
static inline uint64_t
nbmf_fp_mix(uint64_t x, uint64_t p)
{
	x *= p;
	return x ^ (x >> 32);
}

static inline void
nbmf_feature(NbmfFeatures *out, uint64_t x)
{
	if (out->count == NBMF_FEATURES_MAX)
		nbmf_features_flush(out);
	out->waiting[out->count++] = nbmf_fp_mix(x, NBMF_FP_P4);
}

/* The last 0 to 7 of len bytes, filled up with zeros */
static inline uint64_t
nbmf_fp_load_rest(const uint8_t *p, size_t len)
{
	size_t left = len % 8;
	uint64_t v = 0;

	if (left == 0)
		return 0;
	if (len >= 8)
		return nbmf_load64le(p + len - 8) >> (64 - 8 * left);
	for (size_t i = 0; i < left; i++)
		v |= (uint64_t) p[i] << (8 * i);
	return v;
}

/* Hash of bytes, in steps of 8; the last step is filled up with zeros */
static inline uint64_t
nbmf_fp_bytes(uint64_t h, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 8 <= len; i += 8)
		h = nbmf_fp_mix(h ^ nbmf_load64le(p + i), NBMF_FP_P1);
	if (len % 8 != 0)
		h = nbmf_fp_mix(h ^ nbmf_fp_load_rest(p, len), NBMF_FP_P1);
	return h;
}

/* The same, ended by the number of bytes */
static inline uint64_t
nbmf_fp_string(uint64_t h, const uint8_t *p, size_t len)
{
	return nbmf_fp_mix(nbmf_fp_bytes(h, p, len) ^ len, NBMF_FP_P5);
}

/* The same of bytes with others behind them, up to end */
static inline uint64_t
nbmf_fp_string_within(uint64_t h, const uint8_t *p, size_t len, const uint8_t *end)
{
	if (len == 0 || len > 8 || end - p < 8)
		return nbmf_fp_string(h, p, len);
	h ^= nbmf_load64le(p) & (~UINT64_C(0) >> (64 - 8 * len));
	return nbmf_fp_mix(nbmf_fp_mix(h, NBMF_FP_P1) ^ len, NBMF_FP_P5);
}

#endif /* NBMF_FINGERPRINT_H */
