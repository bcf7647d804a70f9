/*
 * neural_plain.c
 *		The neural coder in plain C, for every machine.
 */
#include "codec/neural_code.h"
#include "codec/neural_learn.h"

const NeuralMethods nbmf_neural_plain = {encode_document, decode_document, learn_document};
