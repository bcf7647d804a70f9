/*
 * neural_vector.c
 *		The same coder as neural_plain.c, with the sums of products, the cells and the
 *		search of a line done by AVX2, called only where the processor has it, or by
 *		NEON, which every processor for aarch64 has.
 */
#include "codec/neural.h"

#ifdef NBMF_NEURAL_HAVE_VECTOR

#if defined(__aarch64__)
#define NBMF_NEURAL_NEON
#elif defined(__clang__)
#define NBMF_NEURAL_AVX2
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,popcnt"))), apply_to = function)
#else
#define NBMF_NEURAL_AVX2
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#endif
#include "codec/neural_code.h"
#include "codec/neural_learn.h"

bool
nbmf_neural_learn_vector(struct NeuralTrainer *t, const uint8_t *content, size_t len)
{
	return learn_document(t, content, len);
}

const NeuralMethods nbmf_neural_vector = {encode_document, decode_document,
										  nbmf_neural_learn_vector};

#if defined(NBMF_NEURAL_AVX2) && defined(__clang__)
#pragma clang attribute pop
#endif

#endif /* NBMF_NEURAL_HAVE_VECTOR */
