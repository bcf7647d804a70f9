/*
 * neural.h
 *		The model's image in memory and the working state of one document, which
 *		the files of the neural codec share; nobody else includes this.
 *
 * The image holds no pointers: it may be mapped at any address, and is read only
 * once it is loaded.  The state is a thread's own, and is reused from document to
 * document.
 */
#ifndef NBMF_NEURAL_H
#define NBMF_NEURAL_H

#include "codec/codec.h"

/*
 * A compiler for another device defines NEURAL_DEVICE as the attribute that its
 * functions and tables need, and NEURAL_STATE_APART where the arrays of a state
 * that are indexed by data are to lie elsewhere than its other members.
 */
#ifndef NEURAL_DEVICE
#define NEURAL_DEVICE
#endif

/*
 * Inputs of a decision, one vector of 16: matches inside the document, contexts in
 * the order in which their guesses are heard, and a bias.
 */
enum
{
	NEURAL_MATCH_LONG,
	NEURAL_MATCH_SHORT,
	NEURAL_ORDER20,
	NEURAL_ORDER12,
	NEURAL_WORDS, /* word so far and word before */
	NEURAL_ORDER6,
	NEURAL_FIELD, /* field, and its value so far */
	NEURAL_ORDER4,
	NEURAL_PLACE, /* field; length of its value and two bytes, or word */
	NEURAL_ORDER3,
	NEURAL_ORDER2,
	NEURAL_ORDER1,
	NEURAL_CONTEXT_END,              /* inputs from here on say nothing */
	NEURAL_CONTEXT = NEURAL_ORDER20, /* the first of the contexts */
	NEURAL_BIAS = 15,
	NEURAL_INPUTS
};

_Static_assert(NEURAL_INPUTS == 16, "one vector of int16");

/* The contexts that decide most bytes alone, and the plain orders, as bits */
#define NEURAL_FAST \
	(1u << NEURAL_ORDER20 | 1u << NEURAL_ORDER12 | 1u << NEURAL_FIELD | 1u << NEURAL_ORDER6)
#define NEURAL_CONTEXTS ((1u << NEURAL_CONTEXT_END) - (1u << NEURAL_CONTEXT))
#define NEURAL_SLOW     (NEURAL_CONTEXTS & ~NEURAL_FAST)
#define NEURAL_ORDERS \
	(NEURAL_CONTEXTS & ~(1u << NEURAL_WORDS | 1u << NEURAL_FIELD | 1u << NEURAL_PLACE))

/* A line of slots: the checks of all, then symbols and levels of each */
#define NEURAL_LINE        64
#define NEURAL_LINE_SLOTS  8
#define NEURAL_LINE_CHECKS 16
#define NEURAL_SLOT_LEN    6
#define NEURAL_CHECK_MARK  0x1000

/* A line of the escape: a check, and a node for each prefix of four bits */
#define NEURAL_ESCAPE_LINE     16
#define NEURAL_ESCAPE_WAYS     4
#define NEURAL_ESCAPE_CONTEXTS 8

/* Matches inside the document: found by so many bytes */
#define NEURAL_LONG_LEN    6
#define NEURAL_SHORT_LEN   3
#define NEURAL_MATCH_BITS  13
#define NEURAL_MATCH_START 16
#define NEURAL_HISTORY_MAX ((size_t) 1 << 20)

#define NEURAL_DEPTH       32

#define NEURAL_IMAGE_MAGIC UINT32_C(0x314d4e42)

typedef struct NeuralImage
{
	uint32_t magic;
	uint32_t lines;
	uint32_t escape_buckets;
	uint32_t slots_at; /* offset of the lines; the escape's buckets follow */
	uint32_t escape_at;
	uint32_t size;
	uint32_t end_mark;                       /* byte that ends a document */
	uint8_t class_of[256];                   /* what sort of byte */
	uint8_t rest[65536];                     /* level of the sum of four levels */
	int16_t evidence[3][NEURAL_INPUTS][256]; /* logits of stage, input, cell */
	int16_t fast_found[64][NEURAL_INPUTS];   /* weights of the fast stage */
	int16_t fast_class[256][NEURAL_INPUTS];
	int16_t fast_any[NEURAL_INPUTS];
	int16_t rank_order[3][16][NEURAL_INPUTS]; /* weights of each guess */
	int16_t rank_match[3][64][NEURAL_INPUTS];
	int16_t rank_class[3][256][NEURAL_INPUTS];
	int16_t escape_weights[256][NEURAL_INPUTS];
	int16_t escape_excluded[128][NEURAL_INPUTS];
} NeuralImage;

/* What is known of the bytes before the next one, as far as contexts use it */
typedef struct NeuralContext
{
	uint64_t recent[3]; /* the last 24 bytes, the latest lowest */
	uint32_t field;
	uint32_t value;
	uint32_t value_len;
	uint32_t word;
	uint32_t word_before;
} NeuralContext;

/* What follows a document and makes its contexts; may be ahead of the coder */
typedef struct NeuralReader
{
	NeuralContext context;
#ifdef NEURAL_STATE_APART
	uint32_t *path; /* to be set after neural_begin */
#else
	uint32_t path[NEURAL_DEPTH];
#endif
	uint32_t depth;
	uint32_t key;
	uint32_t string;
	bool started;
	bool json;
	bool in_string;
	bool escaped;
} NeuralReader;

/* Contexts of a byte that the coder has not come to */
#define NEURAL_AHEAD 4

typedef struct NeuralAhead
{
	NeuralContext context;
	uint64_t hash[NEURAL_INPUTS];
	const uint8_t *line[NEURAL_INPUTS];
} NeuralAhead;

typedef struct NeuralState
{
	/* kept from document to document */
	uint32_t base; /* entries of the match tables up to this are not ours */
	uint32_t history_len;
	const uint8_t *history;
	const uint8_t *content;
#ifdef NEURAL_STATE_APART
	uint32_t (*match_table)[1 << NEURAL_MATCH_BITS];
#else
	uint32_t match_table[2][1 << NEURAL_MATCH_BITS];
#endif

	/* zeroed for each document, from here on */
	uint32_t pos;
	uint32_t match[2]; /* one more than the place of the guess, or 0 */
	uint32_t match_len[2];
	uint8_t match_guess[2]; /* the byte there */
	NeuralReader reader;
	NeuralContext now;
	uint64_t hash[NEURAL_INPUTS];
	const uint8_t *line[NEURAL_INPUTS]; /* where its slot would be */
	bool slow;                          /* the slow stage was needed */
	bool slow_hashed;                   /* its hashes are there already */
	uint8_t excluded_count;
	uint32_t excluded; /* wrong guesses, the first lowest */

	/*
	 * What the contexts say.  symbol[k][i]: the k-th symbol of input i; cell[k][i]:
	 * the evidence if it is the guess, cell[3][i]: if none of the three is.  An
	 * input that says nothing has cell 0 everywhere.
	 */
	uint8_t symbol[3][NEURAL_INPUTS];
	uint8_t cell[4][NEURAL_INPUTS];
	uint16_t levels[NEURAL_INPUTS]; /* four bits each: three symbols, others */
	uint32_t found;                 /* inputs that say something, as bits */
	uint32_t guessing;              /* and those that have a guess */
} NeuralState;

#define NEURAL_STATE_KEPT offsetof(NeuralState, pos)

/*
 * The coder and the learner, as they are compiled for a sort of processor
 */
struct NeuralTrainer;

typedef struct NeuralMethods
{
	NbmfStatus (*encode)(NeuralState *s, const NeuralImage *image, const uint8_t *content,
						 size_t len, bool bounded, uint8_t *payload, size_t cap,
						 size_t *payload_len);
	NbmfStatus (*decode)(NeuralState *s, const NeuralImage *image, const uint8_t *payload,
						 size_t payload_len, bool bounded, uint8_t *content, size_t cap,
						 size_t *len);
	bool (*learn)(struct NeuralTrainer *t, const uint8_t *content, size_t len);
} NeuralMethods;

extern const NeuralMethods nbmf_neural_plain;
#if defined(__GNUC__) && (defined(__x86_64__) || (defined(__aarch64__) && defined(__AARCH64EL__)))
#define NBMF_NEURAL_HAVE_VECTOR
extern const NeuralMethods nbmf_neural_vector;
extern bool nbmf_neural_learn_vector(struct NeuralTrainer *t, const uint8_t *content, size_t len);
#endif
#if defined(__GNUC__) && defined(__x86_64__)
#define NBMF_NEURAL_HAVE_WIDE
extern const NeuralMethods nbmf_neural_wide;
#endif

extern const NeuralMethods *nbmf_neural_methods(void);

/* neural_model.c: what loader and trainer share */
extern void nbmf_neural_image_init(NeuralImage *image, uint32_t lines, uint32_t escape_buckets);
extern size_t nbmf_neural_image_size(uint32_t lines, uint32_t escape_buckets);
extern NbmfStatus nbmf_neural_store(const NeuralImage *image, bool (*interrupted)(void),
									void **stored, size_t *stored_len);
extern const uint16_t nbmf_neural_level_value[16];
extern unsigned nbmf_neural_level(uint32_t count);

static inline uint8_t *
neural_slots(const NeuralImage *image)
{
	return (uint8_t *) (uintptr_t) image + image->slots_at;
}

NEURAL_DEVICE static inline const uint8_t *
neural_line(const NeuralImage *image, uint64_t hash)
{
	uint64_t line = ((hash >> 32) * image->lines) >> 32;

	return (const uint8_t *) image + image->slots_at + line * NEURAL_LINE;
}

/* Twelve bits and a mark; 0 is an empty slot */
NEURAL_DEVICE static inline uint16_t
neural_check(uint64_t hash)
{
	return (uint16_t) (NEURAL_CHECK_MARK | (hash & 0xfff));
}

NEURAL_DEVICE static inline const int8_t *
neural_escape_bucket(const NeuralImage *image, uint64_t hash)
{
	uint64_t bucket = ((hash >> 32) * image->escape_buckets) >> 32;

	return (const int8_t *) image + image->escape_at +
		   bucket * (NEURAL_ESCAPE_LINE * NEURAL_ESCAPE_WAYS);
}

NEURAL_DEVICE static inline uint8_t
neural_escape_check(uint64_t hash)
{
	uint8_t check = (uint8_t) hash;

	return check != 0 ? check : 1;
}

#endif /* NBMF_NEURAL_H */
