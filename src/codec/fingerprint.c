/*
 * fingerprint.c
 *		The fingerprint of a content: near contents have near bits.
 *
 * Text, JSON and bytes become sets of features; a one-permutation MinHash (Li,
 * Owen and Zhang 2012) of one bit a bin (Li and Koenig 2010) makes 128 bits of
 * a set, so that each bit of two fingerprints differs with probability
 * (1 - J) / 2, where J is the Jaccard similarity of the sets.  A simhash of the
 * same features needs more bits for the same certainty: at J = 0.8 it differs
 * in 9.7 of 64 bits, this in 6.4.  It also needs to know how often each feature
 * occurs, while a minimum does not care: no memory, whatever the content.
 * Bins that no feature falls into borrow from others, by a fixed sequence of
 * distances (after Shrivastava 2017), so that contents of a few words have
 * fingerprints that are as good.
 *
 * Vectors get signs of random projections (Charikar 2002), which is the simhash
 * in its original sense.
 *
 * The bits are part of the format (docs/format.md, section 11) and frozen;
 * test/golden/fingerprints pins them.  Nothing here allocates; the stack used
 * is less than 64 KB (nbmf_similarity: 128 KB), the time linear.
 */
#include "codec/fingerprint.h"

const uint32_t nbmf_fp_keys[16] = NBMF_FP_KEYS;

/* The class of each byte */
const uint8_t nbmf_fp_class[256] = {
	2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 2, 2, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	0, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 2, 2, 2, 2,
	2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 1, 2, 3,
	2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 1, 2, 2,
	3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
	3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
	3, 3, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
	3, 3, 5, 6, 6, 6, 6, 6, 6, 6, 3, 3, 3, 3, 3, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
};

const uint8_t nbmf_fp_first[128] = {
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
};

/* NULL if this processor cannot do it so */
static const NbmfFingerprintMethods *
methods_of(NbmfFingerprintPath path)
{
	if (path == NBMF_FINGERPRINT_PLAIN)
		return &nbmf_fp_plain;
#ifdef NBMF_FP_X86
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") ||
		!__builtin_cpu_supports("popcnt"))
		return NULL;
	if (path == NBMF_FINGERPRINT_VECTOR)
		return &nbmf_fp_avx2;
	if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
		__builtin_cpu_supports("avx512vbmi2"))
		return &nbmf_fp_avx512;
#elif defined(NBMF_FP_NEON)
	if (path == NBMF_FINGERPRINT_VECTOR)
		return &nbmf_fp_neon;
#endif
	return NULL;
}

static const NbmfFingerprintMethods *
best_methods(void)
{
	const NbmfFingerprintMethods *methods = NULL;

	for (int path = NBMF_FINGERPRINT_WIDE; methods == NULL; path--)
		methods = methods_of((NbmfFingerprintPath) path);
	return methods;
}

void
nbmf_features_flush(NbmfFeatures *out)
{
	out->take(out->state, out->waiting, out->count);
	out->any += out->count;
	out->count = 0;
}

/*
 * All features of a content that is no vector; at least one.
 */
void
nbmf_features(NbmfFeatures *out, NbmfKind kind, const void *content, size_t len)
{
	best_methods()->features(out, kind, content, len);
}

/*
 * The fingerprint of len bytes of content.  Any bytes will do; that of content
 * that cannot be of its kind is not specified, but always the same.
 */
void
nbmf_fingerprint(NbmfKind kind, const void *content, size_t len, NbmfFingerprint *out)
{
	best_methods()->fingerprint(kind, content, len, out);
}

/*
 * The same in a way that is not the fastest, for tests.  Returns false if the
 * processor cannot do it so.
 */
bool
nbmf_fingerprint_by(NbmfFingerprintPath path, NbmfKind kind, const void *content, size_t len,
					NbmfFingerprint *out)
{
	const NbmfFingerprintMethods *methods = methods_of(path);

	if (methods == NULL)
		return false;
	methods->fingerprint(kind, content, len, out);
	return true;
}

/*
 * In how many of the 64 bits do two fingerprints differ?
 */
int
nbmf_fingerprint_distance(uint64_t a, uint64_t b)
{
	return __builtin_popcountll(a ^ b);
}
