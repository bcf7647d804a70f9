/*
 * fuzz_fingerprint.c
 *		Arbitrary bytes as content of every kind: all ways to compute it give the
 *		same fingerprint, and the comparison of two contents keeps to
 *		its range.  The fuzzer's time limit finds what is not linear.
 *
 * The first byte says where the rest is cut in two.
 */
#include "codec/codec.h"

#include "require.h"

#include <string.h>

static uint8_t *
copy(const uint8_t *data, size_t size)
{
	/* nothing behind it: the sanitizer sees a byte too many being read */
	uint8_t *p = malloc(size);

	if (size > 0)
		memcpy(p, data, size);
	return p;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cut = size > 0 ? (size - 1) * data[0] / 255 : 0;
	uint8_t *a = copy(data + (size > 0), cut);
	size_t b_len = size > 0 ? size - 1 - cut : 0;
	uint8_t *b = copy(data + size - b_len, b_len);

	for (int kind = NBMF_KIND_TEXT; kind <= NBMF_KIND_VECTOR; kind++)
	{
		NbmfFingerprint best;
		double alike;

		nbmf_fingerprint((NbmfKind) kind, a, cut, &best);
		for (int path = 0; path < NBMF_FINGERPRINT_PATHS; path++)
		{
			NbmfFingerprint f;

			if (nbmf_fingerprint_by((NbmfFingerprintPath) path, (NbmfKind) kind, a, cut, &f))
				REQUIRE(best.simhash == f.simhash && best.second == f.second);
		}
		alike = nbmf_similarity((NbmfKind) kind, a, cut, b, b_len);
		REQUIRE(alike >= 0 && alike <= 1);
		REQUIRE(alike == nbmf_similarity((NbmfKind) kind, b, b_len, a, cut));
	}
	free(a);
	free(b);
	return 0;
}
