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

const NeuralMethods nbmf_neural_wide = {encode_document, decode_document, nbmf_neural_learn_vector};

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif /* NBMF_NEURAL_HAVE_WIDE */
