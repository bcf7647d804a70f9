/*
 * codec.h
 *		Bytes to bytes: the frame, its codecs, its checksum, and the rule that
 *		says what kind a text is.
 *
 * This room is pure C99.  It includes no PostgreSQL header, allocates nothing
 * but libzstd's contexts, a workspace and what training needs, prints nothing and never jumps out:
 * every function that can fail returns an NbmfStatus, and works on memory that
 * the caller owns.  A frame is hostile input; whatever the bytes are, parsing
 * and decoding end, stay inside the given buffers, and either return the
 * content that was encoded or an error.
 *
 * The bytes of a frame are specified in docs/format.md.
 */
#ifndef NBMF_CODEC_H
#define NBMF_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum NbmfStatus
{
	NBMF_OK = 0,
	NBMF_ERR_TRUNCATED,     /* the frame ends inside its header */
	NBMF_ERR_RESERVED,      /* a codec, tier or flag of a later format */
	NBMF_ERR_LENGTH,        /* declared length impossible for the payload */
	NBMF_ERR_PAYLOAD,       /* the payload does not decode */
	NBMF_ERR_CHECKSUM,      /* the payload decodes to other content */
	NBMF_ERR_CONTENT,       /* the content cannot be of the declared kind */
	NBMF_ERR_TOO_LARGE,     /* content over NBMF_CONTENT_MAX */
	NBMF_ERR_SPACE,         /* the caller's buffer is too small */
	NBMF_ERR_MEMORY,        /* libzstd could not allocate its context */
	NBMF_ERR_INTERRUPTED,   /* the caller's interrupt test said stop */
	NBMF_ERR_OBJECT,        /* the shared object is missing or not the one meant */
	NBMF_ERR_OBJECT_DAMAGED /* it is there, but not what it was; said by who reads it */
} NbmfStatus;

/* What the content is.  Two bits on disk. */
typedef enum NbmfKind
{
	NBMF_KIND_TEXT = 0,  /* a text that is none of the others */
	NBMF_KIND_JSON = 1,  /* a text that is one RFC 8259 value */
	NBMF_KIND_BYTEA = 2, /* bytes; their text is \x and hex digits */
	NBMF_KIND_VECTOR = 3 /* float4, little-endian; text as of real[] */
} NbmfKind;

/* How hot the value is held to be.  Two bits on disk; 3 is reserved. */
typedef enum NbmfTier
{
	NBMF_TIER_L1 = 0,
	NBMF_TIER_L2 = 1,
	NBMF_TIER_L3 = 2
} NbmfTier;

/* How the payload was made.  Four bits on disk; see docs/format.md. */
typedef enum NbmfCodec
{
	NBMF_CODEC_STORED = 0,      /* the content itself */
	NBMF_CODEC_ZSTD = 1,        /* a magicless zstd frame */
	NBMF_CODEC_ZSTD_BLOCK = 2,  /* the body of one compressed zstd block */
	NBMF_CODEC_ZSTD_BLOCKS = 3, /* the blocks of a zstd frame, without its header */
	NBMF_CODEC_DICT = 4,        /* the same three, made with a dictionary */
	NBMF_CODEC_DICT_BLOCK = 5,
	NBMF_CODEC_DICT_BLOCKS = 6,
	/* 7 to 9, 11 and 12 are taken, but this version neither writes nor reads them */
	NBMF_CODEC_BASE = 7,
	NBMF_CODEC_BASE_BLOCK = 8,
	NBMF_CODEC_BASE_BLOCKS = 9,
	NBMF_CODEC_NEURAL = 10, /* a learned model; length and end in the payload */
	NBMF_CODEC_NEURAL_BASE = 11,
	NBMF_CODEC_VECTOR = 12,
	NBMF_CODEC_NEURAL_LONG = 13, /* a learned model; length in the header */
	/* not a codec: the second byte holds the codec and flags */
	NBMF_CODEC_EXTENDED = 15
} NbmfCodec;

/*
 * Largest content, in bytes.  A frame must fit in a varlena, whose largest
 * size is 1 GB - 1 (MaxAllocSize), with every header there may be.
 */
#define NBMF_CONTENT_MAX ((size_t) 0x3fffff00)

/* No header of any version is longer; this much of a frame can be parsed. */
#define NBMF_FRAME_HEADER_MAX 64

/* Compression levels that users may ask for; 0 stands for "the default". */
#define NBMF_LEVEL_MIN 1
#define NBMF_LEVEL_MAX 22

/* Everything that a frame's header says. */
typedef struct NbmfFrame
{
	NbmfKind kind;
	NbmfTier tier;
	NbmfCodec codec;
	uint32_t object;   /* shared object that the payload needs; 0: none */
	uint32_t checksum; /* nbmf_checksum of the content */
	size_t raw_len;    /* bytes of content */
	size_t header_len; /* offset of the payload */
	size_t payload_len;

	/*
	 * A frame of NBMF_CODEC_NEURAL does not say its length, and only the low 16
	 * bits of its checksum: after parsing, raw_len is the most that it may be and
	 * checksum has those bits.  nbmf_decode fills in both and sets this.
	 */
	bool complete;
} NbmfFrame;

/* Bits of the checksum that a header holds */
static inline uint32_t
nbmf_frame_checksum_mask(const NbmfFrame *frame)
{
	return frame->complete ? UINT32_MAX : 0xffff;
}

/* Ids of shared objects: 1 .. NBMF_OBJECT_MAX */
#define NBMF_OBJECT_MAX ((uint32_t) 0x7fffffff)

/*
 * A dictionary, digested by libzstd for encoding at one level, for decoding,
 * or for both.  The bytes stay the owner's and must outlive it.
 */
typedef struct NbmfDict
{
	uint32_t id; /* shared object that it is */
	const void *bytes;
	size_t len;
	int level; /* level of cdict */
	const struct ZSTD_CDict_s *cdict;
	const struct ZSTD_DDict_s *ddict;
} NbmfDict;

/*
 * A model: the image that nbmf_model_load has made, which stays the owner's.
 */
typedef struct NbmfModel
{
	uint32_t id; /* shared object that it is */
	const void *image;
	size_t image_len;
} NbmfModel;

/* The shared objects at hand; any may be NULL */
typedef struct NbmfObjects
{
	const NbmfDict *dict;
	const NbmfModel *model;
} NbmfObjects;

/* What the encoder is asked for. */
typedef struct NbmfEncodeParams
{
	NbmfKind kind;
	NbmfTier tier;
	int level; /* NBMF_LEVEL_MIN .. NBMF_LEVEL_MAX */

	/* NULL, or a dictionary prepared for encoding; its level counts then */
	const NbmfDict *dict;

	/* NULL, or a model to try for content up to NBMF_CHUNK */
	const NbmfModel *model;

	/*
	 * Called between chunks of long content (never for content up to
	 * NBMF_CHUNK), and between the documents of a sample; true ends the encoding
	 * with NBMF_ERR_INTERRUPTED.  May be NULL.
	 */
	bool (*interrupted)(void);
} NbmfEncodeParams;

/* Content is compressed in steps of this many bytes between interrupt tests */
#define NBMF_CHUNK ((size_t) 1 << 20)

/*
 * The working state of one thread of encoding and decoding: libzstd's
 * contexts, created when first needed and reused.  All zeros is a valid start.
 */
typedef struct NbmfWorkspace
{
	struct ZSTD_CCtx_s *cctx;
	struct ZSTD_DCtx_s *dctx;
	uint8_t *block; /* room to put a block's frame back together */
	int level;      /* level that cctx is set to */
	void *neural;   /* the neural codec's state, then room for trying it */
	size_t neural_room;
} NbmfWorkspace;

/* codec.c: choosing a codec, encoding, decoding */
extern size_t nbmf_encode_bound(size_t raw_len);
extern NbmfStatus nbmf_encode(NbmfWorkspace *ws, const NbmfEncodeParams *params,
							  const void *content, size_t len, void *frame, size_t cap,
							  size_t *frame_len);
extern NbmfStatus nbmf_decode(NbmfWorkspace *ws, const NbmfObjects *objects, const void *frame,
							  size_t frame_len, void *content, size_t cap, NbmfFrame *header);
extern bool nbmf_codec_has_dict(NbmfCodec codec);
extern bool nbmf_codec_has_model(NbmfCodec codec);
extern const char *nbmf_status_text(NbmfStatus status);
extern const char *nbmf_codec_name(NbmfCodec codec);
extern const char *nbmf_kind_name(NbmfKind kind);
extern const char *nbmf_tier_name(NbmfTier tier);

/* frame.c: the header */
extern NbmfStatus nbmf_frame_parse(const void *frame, size_t avail, size_t frame_len,
								   NbmfFrame *out);
extern size_t nbmf_frame_header_len(NbmfCodec codec, uint32_t object, size_t raw_len);
extern void nbmf_frame_write_header(uint8_t *dst, const NbmfFrame *frame);

/* zstd_codec.c: the codecs that libzstd does */
extern NbmfStatus nbmf_zstd_encode(NbmfWorkspace *ws, const NbmfEncodeParams *params,
								   const void *content, size_t len, uint8_t *payload, size_t cap,
								   NbmfCodec *codec, size_t *payload_len);
extern NbmfStatus nbmf_zstd_decode(NbmfWorkspace *ws, NbmfCodec codec, const NbmfDict *dict,
								   const uint8_t *payload, size_t payload_len, void *content,
								   size_t len);
extern size_t nbmf_zstd_encode_room(size_t len);
extern size_t nbmf_zstd_plausible_len(NbmfCodec codec, size_t payload_len);
extern void nbmf_workspace_trim(NbmfWorkspace *ws, size_t limit);
extern void nbmf_workspace_free(NbmfWorkspace *ws);

/* dictionary.c: digested dictionaries, libzstd's own or in the caller's room */
extern NbmfStatus nbmf_dict_prepare_encode(NbmfDict *dict, int level);
extern NbmfStatus nbmf_dict_prepare_decode(NbmfDict *dict);
extern size_t nbmf_dict_memory(const NbmfDict *dict);
extern void nbmf_dict_free(NbmfDict *dict);
extern size_t nbmf_dict_encode_room(size_t dict_len, int level);
extern size_t nbmf_dict_decode_room(size_t dict_len);
extern const struct ZSTD_CDict_s *
nbmf_dict_place_encode(void *room, size_t room_len, const void *dict, size_t dict_len, int level);
extern const struct ZSTD_DDict_s *nbmf_dict_place_decode(void *room, size_t room_len,
														 const void *dict, size_t dict_len);

/*
 * The payload of NBMF_CODEC_ZSTD_BLOCK is written at least this far into the
 * caller's buffer, because libzstd first writes its own frame and block header
 * in front of it; every frame header is longer.
 */
#define NBMF_ZSTD_BLOCK_LEAD 5

/* Documents, one behind the other */
typedef struct NbmfSample
{
	const uint8_t *bytes;
	const size_t *sizes;
	size_t count;
} NbmfSample;

/* train.c */
extern NbmfStatus nbmf_dict_train(const NbmfSample *sample, unsigned k, unsigned d, int level,
								  void *dict, size_t cap, size_t *dict_len);
extern NbmfStatus nbmf_sample_cost(NbmfWorkspace *ws, const NbmfEncodeParams *params,
								   const NbmfSample *sample, uint64_t *bytes, double *squares);

/*
 * The neural codec: a model learned from documents of a column predicts each
 * byte, and an arithmetic coder writes what the prediction leaves open.
 */
typedef enum NbmfNeuralForm
{
	NBMF_NEURAL_SHORT, /* the end is in the stream; NBMF_NEURAL_SHORT_MAX bytes at most */
	NBMF_NEURAL_LONG   /* the length is known otherwise */
} NbmfNeuralForm;

#define NBMF_NEURAL_SHORT_MAX ((size_t) 16383)

/* Limits of a model; 0 stands for "the default" */
typedef struct NbmfModelParams
{
	size_t memory; /* bytes of the loaded image */
	size_t slots;  /* contexts that are kept */

	/* called every few kilobytes; true ends training.  May be NULL. */
	bool (*interrupted)(void);
} NbmfModelParams;

/* What documents have taught: models of any size can be made of it */
struct NeuralTrainer;

/* neural_train.c, neural_model.c: making and loading models */
extern NbmfStatus nbmf_model_learn(const NbmfSample *sample, bool (*interrupted)(void),
								   struct NeuralTrainer **learned);
extern NbmfStatus nbmf_model_make(const struct NeuralTrainer *learned,
								  const NbmfModelParams *params, void **stored, size_t *stored_len);
extern void nbmf_learned_free(struct NeuralTrainer *learned);
extern NbmfStatus nbmf_model_train(const NbmfSample *sample, const NbmfModelParams *params,
								   void **stored, size_t *stored_len);
extern NbmfStatus nbmf_model_memory(const void *stored, size_t len, size_t *bytes);
extern NbmfStatus nbmf_model_load(const void *stored, size_t len, void *image, size_t cap);

/* neural.c */
extern size_t nbmf_neural_state_size(void);
extern NbmfStatus nbmf_neural_encode(void *state, const void *image, NbmfNeuralForm form,
									 const void *history, size_t history_len, const void *content,
									 size_t len, uint8_t *payload, size_t cap, size_t *payload_len);
extern NbmfStatus nbmf_neural_decode(void *state, const void *image, NbmfNeuralForm form,
									 const void *history, size_t history_len,
									 const uint8_t *payload, size_t payload_len, void *content,
									 size_t cap, size_t *len);

/* Coders, each for more of a processor than the one before; all give the same bits */
typedef enum NbmfNeuralCoder
{
	NBMF_NEURAL_PLAIN,
	NBMF_NEURAL_VECTOR, /* AVX2 or NEON */
	NBMF_NEURAL_WIDE    /* AVX-512 */
} NbmfNeuralCoder;

#define NBMF_NEURAL_CODERS (NBMF_NEURAL_WIDE + 1)

extern NbmfNeuralCoder nbmf_neural_limit; /* for tests: none beyond this one */

/* checksum.c */
extern uint32_t nbmf_checksum(const void *data, size_t len);

/* kind.c: what a text is */
extern bool nbmf_json_valid(const void *text, size_t len);
extern bool nbmf_hex_valid(const void *text, size_t len);

/* Arrays and objects nested deeper than this are text, not JSON, to us. */
#define NBMF_JSON_DEPTH_MAX 4096

/*
 * Fingerprint of a content: the more alike two contents, the fewer of their
 * bits differ.  A function of kind and content alone; part of the format.
 */
typedef struct NbmfFingerprint
{
	uint64_t simhash; /* what the index searches */
	uint64_t second;  /* as many bits again, of the same features */
} NbmfFingerprint;

/* Ways to compute one, each for more of a processor than the one before; all give the same */
typedef enum NbmfFingerprintPath
{
	NBMF_FINGERPRINT_PLAIN,
	NBMF_FINGERPRINT_VECTOR, /* AVX2 or NEON */
	NBMF_FINGERPRINT_WIDE    /* AVX-512 with VBMI2 */
} NbmfFingerprintPath;

#define NBMF_FINGERPRINT_PATHS (NBMF_FINGERPRINT_WIDE + 1)

/* fingerprint.c */
extern void nbmf_fingerprint(NbmfKind kind, const void *content, size_t len, NbmfFingerprint *out);
extern bool nbmf_fingerprint_by(NbmfFingerprintPath path, NbmfKind kind, const void *content,
								size_t len, NbmfFingerprint *out);
extern int nbmf_fingerprint_distance(uint64_t a, uint64_t b);

/*
 * match.c: the positions of those of n keys, 65,536 at most, that are within a
 * distance of the query, in ascending order; returns how many.  There is room for n.
 * What is ahead, if not NULL, is where as many keys will be looked at next: the
 * processor fetches them meanwhile.
 */
typedef int (*NbmfMatch)(const uint64_t *keys, int n, uint64_t query, int distance,
						 const char *ahead, uint16_t *out);

extern NbmfMatch nbmf_match_function(int rank);

/* similarity.c */
extern double nbmf_similarity(NbmfKind kind, const void *a, size_t a_len, const void *b,
							  size_t b_len);

#endif /* NBMF_CODEC_H */
