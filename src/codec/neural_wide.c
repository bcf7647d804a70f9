/*
 * neural_wide.c
 *		The coder of neural_vector.c once more, for processors with AVX-512: the same
 *		vectors, but the compiler has 32 of them, and masks.  The learner gains nothing.
 */
#include "codec/neural.h"

#ifdef NBMF_NEURAL_HAVE_WIDE

#define NBMF_NEURAL_AVX2
#ifdef __clang__
#pragma clang attribute push(                                                           \
	__attribute__((target("avx2,bmi,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq"))), \
	apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq")
#endif
#include "codec/neural_code.h"

NbmfStatus
nbmf_neural_encode_wide(NeuralState *s, const NeuralImage *image, const uint8_t *content,
						size_t len, bool bounded, uint8_t *payload, size_t cap, size_t *payload_len)
{
	return encode_document(s, image, content, len, bounded, payload, cap, payload_len);
}

NbmfStatus
nbmf_neural_decode_wide(NeuralState *s, const NeuralImage *image, const uint8_t *payload,
						size_t payload_len, bool bounded, uint8_t *content, size_t cap, size_t *len)
{
	return decode_document(s, image, payload, payload_len, bounded, content, cap, len);
}

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif /* NBMF_NEURAL_HAVE_WIDE */
