/*
 * neural.c
 *		The neural codec's door: one document, one loaded model, and the coder
 *		that suits the processor.
 *
 * The coder for vectors and the one in plain C give the same bits; which of them
 * runs is nobody's concern but the clock's.
 */
#include "codec/neural_core.h"

size_t
nbmf_neural_state_size(void)
{
	return sizeof(NeuralState);
}

NbmfNeuralCoder nbmf_neural_limit = NBMF_NEURAL_WIDE;

/*
 * The coder that suits the processor, within nbmf_neural_limit.
 */
const NeuralMethods *
nbmf_neural_methods(void)
{
#ifdef NBMF_NEURAL_HAVE_WIDE
	if (nbmf_neural_limit >= NBMF_NEURAL_WIDE && __builtin_cpu_supports("avx512f") &&
		__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2"))
		return &nbmf_neural_wide;
#endif
#if defined(NBMF_NEURAL_HAVE_VECTOR) && defined(__aarch64__)
	if (nbmf_neural_limit >= NBMF_NEURAL_VECTOR)
		return &nbmf_neural_vector;
#elif defined(NBMF_NEURAL_HAVE_VECTOR)
	if (nbmf_neural_limit >= NBMF_NEURAL_VECTOR && __builtin_cpu_supports("avx2") &&
		__builtin_cpu_supports("bmi2"))
		return &nbmf_neural_vector;
#endif
	return &nbmf_neural_plain;
}

/*
 * Encode len bytes of content.
 *
 * state: nbmf_neural_state_size() bytes, aligned as malloc does, all zeros before
 * its first use; image: a model that nbmf_model_load has made; history: a
 * document to find repetitions in, or NULL.  NBMF_ERR_SPACE: the payload is
 * longer than cap, and encoding has ended as soon as that was known.
 */
NbmfStatus
nbmf_neural_encode(void *state, const void *image, NbmfNeuralForm form, const void *history,
				   size_t history_len, const void *content, size_t len, uint8_t *payload,
				   size_t cap, size_t *payload_len)
{
	NeuralState *s = state;
	bool bounded = form == NBMF_NEURAL_LONG;
	NbmfStatus status;

	if (len > (bounded ? NBMF_CONTENT_MAX : NBMF_NEURAL_SHORT_MAX))
		return NBMF_ERR_TOO_LARGE;
	neural_begin(s, history, history_len, content);
	status =
		nbmf_neural_methods()->encode(s, image, content, len, bounded, payload, cap, payload_len);
	neural_finish(s);
	return status;
}

/*
 * Decode a payload.
 *
 * Of the short form, cap is the room there is, and *len is set to the content's
 * length; of the long form, exactly cap bytes are decoded, which may be fewer
 * than the content has: its beginning can be read alone.
 */
NbmfStatus
nbmf_neural_decode(void *state, const void *image, NbmfNeuralForm form, const void *history,
				   size_t history_len, const uint8_t *payload, size_t payload_len, void *content,
				   size_t cap, size_t *len)
{
	NeuralState *s = state;
	bool bounded = form == NBMF_NEURAL_LONG;
	NbmfStatus status;

	if (!bounded && cap > NBMF_NEURAL_SHORT_MAX)
		cap = NBMF_NEURAL_SHORT_MAX;
	if (cap > NBMF_CONTENT_MAX)
		return NBMF_ERR_TOO_LARGE;
	neural_begin(s, history, history_len, content);
	status =
		nbmf_neural_methods()->decode(s, image, payload, payload_len, bounded, content, cap, len);
	neural_finish(s);
	return status;
}
