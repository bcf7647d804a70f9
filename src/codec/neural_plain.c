/*
 * neural_plain.c
 *		The neural coder in plain C, for every machine.
 */
#include "codec/neural_code.h"
#include "codec/neural_learn.h"

NbmfStatus
nbmf_neural_encode_plain(NeuralState *s, const NeuralImage *image, const uint8_t *content,
						 size_t len, bool bounded, uint8_t *payload, size_t cap,
						 size_t *payload_len)
{
	return encode_document(s, image, content, len, bounded, payload, cap, payload_len);
}

NbmfStatus
nbmf_neural_decode_plain(NeuralState *s, const NeuralImage *image, const uint8_t *payload,
						 size_t payload_len, bool bounded, uint8_t *content, size_t cap,
						 size_t *len)
{
	return decode_document(s, image, payload, payload_len, bounded, content, cap, len);
}

bool
nbmf_neural_learn_plain(struct NeuralTrainer *t, const uint8_t *content, size_t len)
{
	return learn_document(t, content, len);
}
