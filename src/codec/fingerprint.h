/*
 * fingerprint.h
 *		What the files of the fingerprint share.  Not for other rooms, which
 *		include codec.h.
 *
 * Content is turned into features, 32-bit hashes that stand for words, leaves
 * or runs of bytes; a consumer takes them in batches, in any order and with
 * repetitions.  Every number below is frozen: see docs/format.md, section 11.
 *
 * Hashes are products of two halves of 32 bits, as in NH (Black et al. 1999,
 * UMAC), because every processor multiplies those in vectors.
 */
#ifndef NBMF_FINGERPRINT_H
#define NBMF_FINGERPRINT_H

#include "codec/bytes.h"
#include "codec/codec.h"

#include <string.h>

/* Odd, with bits everywhere: those of xxHash */
#define NBMF_FP_P1 UINT64_C(0x9E3779B185EBCA87)
#define NBMF_FP_P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define NBMF_FP_P3 UINT64_C(0x165667B19E3779F9)
#define NBMF_FP_P4 UINT64_C(0x85EBCA77C2B2AE63)
#define NBMF_FP_P5 UINT64_C(0x27D4EB2F165667C5)

/* The first constants of SHA-256: two for each 8 bytes of a run, then of joins */
#define NBMF_FP_KEYS                                                                            \
	{                                                                                           \
		0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4,     \
			0xAB1C5ED5, 0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, \
			0x9BDC06A7, 0xC19BF174                                                              \
	}

/* What the last 48 bytes of a run add to its sum if they are zeros */
#define NBMF_FP_REST UINT64_C(0x412E33B2098B6D35)

/* What two hashes are joined to, and the two keys of it */
#define NBMF_FP_PAIR_A   UINT32_C(0xE49B69C1)
#define NBMF_FP_PAIR_B   UINT32_C(0xEFBE4786)
#define NBMF_FP_TRIPLE_A UINT32_C(0x0FC19DC6)
#define NBMF_FP_TRIPLE_B UINT32_C(0x240CA1CC)
#define NBMF_FP_MEMBER_A UINT32_C(0x2DE92C6F)
#define NBMF_FP_MEMBER_B UINT32_C(0x4A7484AA)
#define NBMF_FP_LEAF_A   UINT32_C(0x5CB0A9DC)
#define NBMF_FP_LEAF_B   UINT32_C(0x76F988DA)

/* What stands before the first word of a text, and the path of all JSON */
#define NBMF_FP_ROOT UINT32_C(0x983E5152)

#if defined(__x86_64__) && defined(__GNUC__)
#define NBMF_FP_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && defined(__GNUC__) && \
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NBMF_FP_NEON 1
#endif

/* Bits of each word of a fingerprint, and what none of them is */
#define NBMF_FP_BINS  64
#define NBMF_FP_EMPTY UINT32_MAX

/* Words that may be hashed too many, and marks that may be written too many */
#define NBMF_WORDS_SPARE  7
#define NBMF_MARKS_SPARE  32

#define NBMF_FEATURES_MAX 512

/* Features on their way to a consumer */
typedef struct NbmfFeatures
{
	void (*take)(void *state, const uint32_t *features, size_t count);
	void *state;
	uint64_t any; /* features taken so far, not counting those waiting */
	size_t count; /* waiting */
	uint32_t waiting[NBMF_FEATURES_MAX + 2 * NBMF_WORDS_SPARE];
} NbmfFeatures;

/* Words are cut at this many bytes, a run of bytes that is hashed at once */
#define NBMF_WORD_MAX 64

/* How far behind its end a text must be readable; what is there does not matter */
#define NBMF_FP_BEHIND 64

/* Text is cut into words in pieces of so many bytes, a multiple of 64 */
#define NBMF_PIECE 1024

/* Where words begin and end: at most two marks a byte */
#define NBMF_MARKS_MAX (2 * NBMF_PIECE + NBMF_MARKS_SPARE)

/* What the bytes just before a piece say of its first ones */
typedef struct NbmfCarry
{
	uint64_t apart; /* bits 0, 1: these bytes are no word bytes */
	uint64_t start; /* bits 0 to 2: a word starts here, if this is one */
} NbmfCarry;

/* The words before the next one */
typedef struct NbmfBefore
{
	uint32_t word; /* hash of the last one */
	uint32_t pair; /* of the one before it and the last one */
} NbmfBefore;

/* Of 64 bytes, a bit for each that ... */
typedef struct NbmfMasks
{
	uint64_t word;  /* could be part of a word */
	uint64_t two;   /* begins a character of two bytes that is none */
	uint64_t three; /* or of three */
	uint64_t lead;  /* begins a character of three bytes that is a word */
} NbmfMasks;

/* Adds the projections of a block of components to sums */
typedef void NbmfVectorBlock(int32_t *q, const uint64_t *signs, int64_t *sums);

/* Classes of bytes */
enum
{
	NBMF_FP_SPACE, /* white space of JSON; like all before PART, no part of a word */
	NBMF_FP_MARK,  /* what separates values of JSON */
	NBMF_FP_APART, /* others */
	NBMF_FP_PART,  /* is part of a word */
	NBMF_FP_TWO,   /* is none, nor is the byte behind it: U+0080 to U+00BF */
	NBMF_FP_THREE, /* is none, nor are two bytes behind it: U+2000 to U+2FFF */
	NBMF_FP_LEAD   /* starts a word of three bytes: U+3000 to U+9FFF, U+F000 to U+FFFF */
};

/* fingerprint.c */
extern const uint32_t nbmf_fp_keys[16];
extern const uint8_t nbmf_fp_first[128]; /* from 64 - n on, a mask of the first n of 64 bytes */
extern const uint8_t nbmf_fp_class[256];
extern void nbmf_features_flush(NbmfFeatures *out);
extern void nbmf_features(NbmfFeatures *out, NbmfKind kind, const void *content, size_t len);

/* fingerprint_vector.c */
extern uint32_t nbmf_vector_scale(const uint8_t *p, size_t count);
extern void nbmf_vector_integers(const uint8_t *p, size_t count, uint32_t scale, int32_t *out);
extern NbmfVectorBlock nbmf_vector_block;
extern void nbmf_vector_fingerprint(const uint8_t *p, size_t len, NbmfVectorBlock *block,
									NbmfFingerprint *out);

#ifdef NBMF_FP_X86
extern NbmfVectorBlock nbmf_vector_block_avx2;
#endif

/* A way to do it: what fingerprint_plain.c, _avx2.c, _avx512.c and _neon.c have to offer */
typedef struct NbmfFingerprintMethods
{
	void (*features)(NbmfFeatures *out, NbmfKind kind, const uint8_t *p, size_t len);
	void (*fingerprint)(NbmfKind kind, const uint8_t *p, size_t len, NbmfFingerprint *out);
} NbmfFingerprintMethods;

extern const NbmfFingerprintMethods nbmf_fp_plain;
#ifdef NBMF_FP_X86
extern const NbmfFingerprintMethods nbmf_fp_avx2;
extern const NbmfFingerprintMethods nbmf_fp_avx512;
#endif
#ifdef NBMF_FP_NEON
extern const NbmfFingerprintMethods nbmf_fp_neon;
#endif

/* The lowest n bits of 64, for n from 1 on */
static inline uint64_t
nbmf_fp_lowest(size_t n)
{
	return ~UINT64_C(0) >> (64 - n);
}

/* One multiplication and a shift */
static inline uint64_t
nbmf_fp_mix(uint64_t x, uint64_t p)
{
	x *= p;
	return x ^ (x >> 32);
}

/* 64 bits become 32 */
static inline uint32_t
nbmf_fp_fold(uint64_t x)
{
	return (uint32_t) (x ^ (x >> 32));
}

/* A hash of two hashes, by two keys */
static inline uint32_t
nbmf_fp_join(uint32_t a, uint32_t b, uint32_t a_key, uint32_t b_key)
{
	return nbmf_fp_fold((uint64_t) (a ^ a_key) * (b ^ b_key));
}

static inline void
nbmf_feature(NbmfFeatures *out, uint32_t x)
{
	if (out->count >= NBMF_FEATURES_MAX)
		nbmf_features_flush(out);
	out->waiting[out->count++] = x;
}

/* What the i-th 8 bytes of a run add to its sum */
static inline uint64_t
nbmf_fp_term(uint64_t x, size_t i)
{
	return (uint64_t) ((uint32_t) x + nbmf_fp_keys[2 * i]) *
		   ((uint32_t) (x >> 32) + nbmf_fp_keys[2 * i + 1]);
}

/*
 * The sum of a run of at most 64 bytes, of zeros where it ends: eight terms, of which
 * the last six are known if it is short.  64 bytes can be read.
 */
static inline uint64_t
nbmf_fp_sum_within(const uint8_t *p, size_t len, bool lower)
{
	const uint8_t *first = nbmf_fp_first + 64 - len;
	size_t terms = len <= 16 ? 2 : 8;
	uint64_t sum = len <= 16 ? NBMF_FP_REST : 0;

	for (size_t i = 0; i < terms; i++)
	{
		uint64_t x = nbmf_load64le(p + 8 * i);

		if (lower)
			x |= (~x & UINT64_C(0x8080808080808080)) >> 2;
		sum += nbmf_fp_term(x & nbmf_load64le(first + 8 * i), i);
	}
	return sum;
}

/* The sum of a word, in lower case as far as ASCII goes */
static inline uint64_t
nbmf_fp_word_sum(const uint8_t *p, size_t len)
{
	return nbmf_fp_sum_within(p, len, true);
}

/* The same of any bytes, where no more can be read */
static inline uint64_t
nbmf_fp_sum(const uint8_t *p, size_t len)
{
	uint8_t run[64];

	if (len < 64)
	{
		memcpy(run, p, len);
		memset(run + len, 0, 64 - len);
		p = run;
	}
	return nbmf_fp_sum_within(p, len, false);
}

/* Hash of bytes, in runs of 64 */
static inline uint64_t
nbmf_fp_bytes(uint64_t h, const uint8_t *p, size_t len)
{
	for (; len > 64; p += 64, len -= 64)
		h = nbmf_fp_mix(h ^ nbmf_fp_sum(p, 64), NBMF_FP_P1);
	return len > 0 ? nbmf_fp_mix(h ^ nbmf_fp_sum(p, len), NBMF_FP_P1) : h;
}

/* What ends the hash of so many bytes */
static inline uint32_t
nbmf_fp_ended(uint64_t h, uint64_t len)
{
	return nbmf_fp_fold((h ^ len) * NBMF_FP_P5);
}

static inline uint32_t
nbmf_fp_string(uint64_t h, const uint8_t *p, size_t len)
{
	return nbmf_fp_ended(nbmf_fp_bytes(h, p, len), len);
}

#endif /* NBMF_FINGERPRINT_H */
