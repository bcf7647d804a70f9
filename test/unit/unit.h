/*
 * unit.h
 *		What the unit tests of the pure C rooms share.
 */
#ifndef NBMF_TEST_UNIT_H
#define NBMF_TEST_UNIT_H

#include "codec/codec.h"

#include "tap.h"

/*
 * Generated content.  Golden files are compared with it, so what a pattern
 * gives for a length is frozen: add patterns, do not change them.
 */
typedef enum Pattern
{
	PATTERN_SAME,   /* one byte value */
	PATTERN_NOISE,  /* incompressible */
	PATTERN_WORDS,  /* words in random order */
	PATTERN_MIXED,  /* stretches of noise and of words */
	PATTERN_LOG,    /* lines that differ by a few digits */
	PATTERN_JSON,   /* one JSON document; 2 bytes or more */
	PATTERN_FLOATS, /* little-endian float4, compressible */
	PATTERN_HALVES  /* a log, then floats: two blocks at high levels */
} Pattern;

#define PATTERNS ((int) PATTERN_HALVES + 1)

/* content.c */
extern const char *pattern_name(Pattern pattern);
extern bool pattern_by_name(const char *name, Pattern *pattern);
extern void pattern_fill(Pattern pattern, uint8_t *dst, size_t len);
extern uint8_t *pattern_alloc(Pattern pattern, size_t len);
extern uint64_t random_next(uint64_t *state);
extern void *exact_alloc(size_t len);
extern void *exact_copy(const void *src, size_t len);
extern const void *guarded_copy(const void *src, size_t len);

/* golden.c, golden_write.c */
extern void test_golden(const char *dir);
extern const NbmfModel *golden_model(const char *dir);
extern const char *golden_status_name(NbmfStatus status);
extern int golden_write(const char *dir);

/* one function for each file of tests; quick leaves out the slow sizes */
extern void test_checksum(bool quick);
extern void test_frame(bool quick);
extern void test_round_trip(bool quick);
extern void test_workspace(bool quick);
extern void test_damage(bool quick);
extern void test_kind(bool quick);
extern void test_dict(bool quick);
extern void test_digest(bool quick);
extern void test_fingerprint(bool quick, const char *golden_dir);
extern void test_match(bool quick);
extern void test_neural(bool quick);

#endif /* NBMF_TEST_UNIT_H */
