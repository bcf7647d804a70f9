/*
 * fuzz_neural.c
 *		The neural codec with hostile bytes.
 *
 *	byte 0, modulo 4:
 *	0	the rest is a payload of the short form, for a good model
 *	1	the same of the long form; byte 1 says how long the content is to be
 *	2	the rest is a stored model with its length and checksum put right; where it
 *		loads, a document is coded with it
 *	3	the rest is content: what is before its middle may be history
 */
#include "codec/codec.h"

#include "require.h"

#include "neural_sample.h"

static NbmfModel model;
static uint8_t *stored;
static size_t stored_len;
static void *state;

static void
prepare(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params = {.slots = 0};
	void *made;

	if (state != NULL)
		return;
	REQUIRE(nbmf_model_train(&sample, &params, &made, &stored_len) == NBMF_OK);
	stored = made;
	REQUIRE(neural_model_open(stored, stored_len, &model));
	state = calloc(1, nbmf_neural_state_size());
	REQUIRE(state != NULL);
}

static void
round_trip(const NbmfModel *with, const uint8_t *history, size_t history_len,
		   const uint8_t *content, size_t len)
{
	size_t cap = 3 * len + 100;
	uint8_t *payload = malloc(cap);
	uint8_t *decoded = malloc(len + 1);

	for (int form = 0; form < 2; form++)
	{
		size_t payload_len[NBMF_NEURAL_CODERS] = {0};
		size_t decoded_len = 0;

		for (int coder = 0; coder < NBMF_NEURAL_CODERS; coder++)
		{
			nbmf_neural_limit = (NbmfNeuralCoder) coder;
			/* a hostile model may need more for a byte than we have */
			if (nbmf_neural_encode(state, with->image, (NbmfNeuralForm) form, history, history_len,
								   content, len, payload, cap, &payload_len[coder]) != NBMF_OK)
				continue;
			/* what one coder writes, the other reads */
			nbmf_neural_limit = (NbmfNeuralCoder) ((coder + 1) % NBMF_NEURAL_CODERS);
			REQUIRE(nbmf_neural_decode(state, with->image, (NbmfNeuralForm) form, history,
									   history_len, payload, payload_len[coder], decoded, len,
									   &decoded_len) == NBMF_OK);
			REQUIRE(decoded_len == len && (len == 0 || memcmp(decoded, content, len) == 0));
		}
		nbmf_neural_limit = NBMF_NEURAL_WIDE;
		REQUIRE(payload_len[0] == payload_len[1] && payload_len[0] == payload_len[2]);
	}
	free(decoded);
	free(payload);
}

static void
hostile_payload(NbmfNeuralForm form, size_t cap, const uint8_t *data, size_t size)
{
	uint8_t *payload = malloc(size);
	uint8_t *content = malloc(cap);
	size_t len = 0;
	NbmfStatus status;

	memcpy(payload, data, size);
	status =
		nbmf_neural_decode(state, model.image, form, NULL, 0, payload, size, content, cap, &len);
	REQUIRE(status == NBMF_OK || status == NBMF_ERR_PAYLOAD);
	if (status == NBMF_OK)
		REQUIRE(len <= cap && (form == NBMF_NEURAL_SHORT || len == cap));
	free(content);
	free(payload);
}

static void
put32(uint8_t *dst, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		dst[i] = (uint8_t) (v >> (8 * i));
}

/*
 * The input replaces a stretch of the good model, from the place that its first
 * two bytes name; magic, version, length and checksum are put right.
 */
static void
hostile_model(const uint8_t *data, size_t size)
{
	NbmfModel other = {0};
	uint8_t *copy;
	size_t at;

	if (size < 2)
		return;
	at = 12 + ((size_t) data[0] << 8 | data[1]) % (stored_len - 12);
	size -= 2;
	if (size > stored_len - at)
		size = stored_len - at;
	copy = malloc(stored_len);
	memcpy(copy, stored, stored_len);
	memcpy(copy + at, data + 2, size);
	put32(copy + 24, (uint32_t) (stored_len - 28));
	put32(copy + 4, nbmf_checksum(copy + 8, stored_len - 8));
	if (neural_model_open(copy, stored_len, &other))
	{
		uint8_t content[NEURAL_DOCUMENT_ROOM];

		round_trip(&other, NULL, 0, content, neural_document(data[1], content));
		neural_model_close(&other);
	}
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	prepare();
	switch (data[0] % 4)
	{
		case 0:
			hostile_payload(NBMF_NEURAL_SHORT, NBMF_NEURAL_SHORT_MAX, data + 1, size - 1);
			break;
		case 1:
			hostile_payload(NBMF_NEURAL_LONG, (size_t) data[1] * 50, data + 2, size - 2);
			break;
		case 2:
			hostile_model(data + 1, size - 1);
			break;
		case 3:
		{
			size_t half = (size - 1) / 2;

			if (size > 8000)
				return 0;
			round_trip(&model, NULL, 0, data + 1, size - 1);
			round_trip(&model, data + 1, half, data + 1 + half, size - 1 - half);
			break;
		}
	}
	return 0;
}
