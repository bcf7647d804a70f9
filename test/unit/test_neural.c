/*
 * test_neural.c
 *		The neural codec: models, payloads, and frames with them.
 */
#include "unit.h"

#include "neural_sample.h"

static void *stored;
static size_t stored_len;
static NbmfModel model;
static void *state;
static NbmfWorkspace ws;

static bool
prepare(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params = {.slots = 0};

	if (stored != NULL)
		return true;
	state = calloc(1, nbmf_neural_state_size());
	return CHECK(nbmf_model_train(&sample, &params, &stored, &stored_len) == NBMF_OK, "training") &&
		   CHECK(neural_model_open(stored, stored_len, &model), "loading");
}

/* Encode, decode from memory of exactly the right length, compare */
static size_t
round_trip(NbmfNeuralForm form, const uint8_t *history, size_t history_len, const uint8_t *content,
		   size_t len)
{
	size_t cap = len * 2 + 100;
	uint8_t *payload = exact_alloc(cap);
	uint8_t *decoded = exact_alloc(len);
	uint8_t *exact;
	size_t payload_len = 0;
	size_t decoded_len = len + 1;
	NbmfStatus status = nbmf_neural_encode(state, model.image, form, history, history_len, content,
										   len, payload, cap, &payload_len);

	CHECK(status == NBMF_OK, "%zu bytes: status %d", len, (int) status);
	exact = exact_copy(payload, payload_len);
	status = nbmf_neural_decode(state, model.image, form, history, history_len, exact, payload_len,
								decoded, len, &decoded_len);
	CHECK(status == NBMF_OK && decoded_len == len &&
			  (len == 0 || memcmp(decoded, content, len) == 0),
		  "%zu bytes do not come back: status %d, %zu", len, (int) status, decoded_len);
	free(exact);
	free(decoded);
	free(payload);
	return payload_len;
}

static void
documents(void)
{
	size_t raw = 0;
	size_t made = 0;

	if (!prepare())
		return;
	for (uint32_t i = 0; i < 300; i++)
	{
		uint8_t content[NEURAL_DOCUMENT_ROOM];
		size_t len = neural_document(5000 + i, content);

		raw += len;
		made += round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, len);
	}
	/* what the model is for */
	CHECK(made * 10 < raw, "%zu bytes of %zu", made, raw);
}

static void
patterns(void)
{
	static const size_t lens[] = {0, 1, 2, 3, 7, 8, 20, 100, 255, 1000, 5000, 16382, 16383};

	if (!prepare())
		return;
	for (int p = 0; p < PATTERNS; p++)
		for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
		{
			uint8_t *content = pattern_alloc((Pattern) p, lens[l]);

			round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, lens[l]);
			round_trip(NBMF_NEURAL_LONG, NULL, 0, content, lens[l]);
			free(content);
		}
}

static void
every_byte(void)
{
	uint8_t content[512];

	if (!prepare())
		return;
	for (unsigned i = 0; i < 512; i++)
		content[i] = (uint8_t) (i * 167);
	round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, 512);
	/* each byte alone and twelve times: one of them marks the end */
	for (unsigned c = 0; c < 256; c++)
	{
		memset(content, (int) c, 12);
		round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, 1);
		round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, 12);
	}
}

static void
with_history(void)
{
	uint8_t content[NEURAL_DOCUMENT_ROOM];
	uint8_t *noise = pattern_alloc(PATTERN_NOISE, 3000);
	size_t len = neural_document(9, content);
	size_t alone = round_trip(NBMF_NEURAL_SHORT, NULL, 0, noise, 3000);
	size_t based = round_trip(NBMF_NEURAL_SHORT, noise, 3000, noise, 3000);
	uint8_t *huge = pattern_alloc(PATTERN_WORDS, (1 << 20) + 1000);

	CHECK(based * 15 < alone, "%zu bytes with itself as history, %zu without", based, alone);
	round_trip(NBMF_NEURAL_SHORT, content, 1, content, len);
	round_trip(NBMF_NEURAL_SHORT, noise, 0, content, len);
	round_trip(NBMF_NEURAL_LONG, huge, (1 << 20) + 1000, noise, 3000);
	free(huge);
	free(noise);
}

/* The beginning of a long payload, alone */
static void
prefixes(void)
{
	uint8_t *content = pattern_alloc(PATTERN_LOG, 40000);
	uint8_t *payload = exact_alloc(80000);
	size_t payload_len = 0;

	CHECK(nbmf_neural_encode(state, model.image, NBMF_NEURAL_LONG, NULL, 0, content, 40000, payload,
							 80000, &payload_len) == NBMF_OK,
		  "encoding");
	for (size_t part = 0; part <= 40000; part = part * 3 + 1)
	{
		uint8_t *decoded = exact_alloc(part);
		size_t len = 0;

		CHECK(nbmf_neural_decode(state, model.image, NBMF_NEURAL_LONG, NULL, 0, payload,
								 payload_len, decoded, part, &len) == NBMF_OK &&
				  len == part && (part == 0 || memcmp(decoded, content, part) == 0),
			  "first %zu bytes", part);
		free(decoded);
	}
	free(payload);
	free(content);
}

/* With whatever vector instructions, training and coding give the same */
static void
same_bits(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params = {.slots = 0};
	void *plain = NULL;
	size_t plain_len = 0;

	if (!prepare())
		return;
	nbmf_neural_limit = NBMF_NEURAL_PLAIN;
	CHECK(nbmf_model_train(&sample, &params, &plain, &plain_len) == NBMF_OK &&
			  plain_len == stored_len && memcmp(plain, stored, stored_len) == 0,
		  "models");
	free(plain);
	for (int p = 0; p < PATTERNS + 50; p++)
	{
		uint8_t content[2000];
		uint8_t payload[NBMF_NEURAL_CODERS][5000];
		size_t len = sizeof(content);
		size_t payload_len[NBMF_NEURAL_CODERS] = {0};

		if (p < PATTERNS)
			pattern_fill((Pattern) p, content, len);
		else
			len = neural_document(7000 + (uint32_t) p, content);
		for (int coder = 0; coder < NBMF_NEURAL_CODERS; coder++)
		{
			uint8_t back[sizeof(content)];
			size_t back_len = 0;

			nbmf_neural_limit = (NbmfNeuralCoder) coder;
			CHECK(nbmf_neural_encode(state, model.image, NBMF_NEURAL_SHORT, NULL, 0, content, len,
									 payload[coder], sizeof(payload[coder]),
									 &payload_len[coder]) == NBMF_OK,
				  "document %d", p);
			CHECK(payload_len[0] == payload_len[coder] &&
					  memcmp(payload[0], payload[coder], payload_len[0]) == 0,
				  "document %d", p);
			CHECK(nbmf_neural_decode(state, model.image, NBMF_NEURAL_SHORT, NULL, 0, payload[0],
									 payload_len[0], back, len, &back_len) == NBMF_OK &&
					  back_len == len && memcmp(back, content, len) == 0,
				  "document %d", p);
		}
	}
	nbmf_neural_limit = NBMF_NEURAL_WIDE;
}

/* A tight buffer: every size is an error, or enough */
static void
space(void)
{
	uint8_t content[NEURAL_DOCUMENT_ROOM];
	size_t len = neural_document(8000, content);
	size_t needed = round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, len);

	for (size_t cap = 0; cap < needed + 10; cap++)
	{
		uint8_t *payload = exact_alloc(cap);
		size_t payload_len;
		NbmfStatus status = nbmf_neural_encode(state, model.image, NBMF_NEURAL_SHORT, NULL, 0,
											   content, len, payload, cap, &payload_len);

		CHECK(status == (cap < needed ? NBMF_ERR_SPACE : NBMF_OK), "room of %zu for %zu: %d", cap,
			  needed, (int) status);
		free(payload);
	}
	CHECK(nbmf_neural_encode(state, model.image, NBMF_NEURAL_SHORT, NULL, 0, content, 16384, NULL,
							 0, &needed) == NBMF_ERR_TOO_LARGE,
		  "too long for the short form");
}

/* Truncated and flipped payloads end, inside their bounds, and are found out */
static void
damage(void)
{
	uint8_t content[NEURAL_DOCUMENT_ROOM];
	uint8_t decoded[NBMF_NEURAL_SHORT_MAX];
	NbmfEncodeParams params = {.kind = NBMF_KIND_TEXT, .level = 3, .model = &model};
	NbmfObjects objects = {.model = &model};
	size_t len = neural_document(6000, content);
	size_t bound = nbmf_encode_bound(len);
	uint8_t *frame = exact_alloc(bound);
	size_t frame_len = 0;
	NbmfFrame header;
	int missed = 0;

	if (!prepare() ||
		!CHECK(nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len) == NBMF_OK &&
				   frame[0] == NBMF_CODEC_NEURAL,
			   "encoding"))
		return;
	CHECK(nbmf_frame_parse(frame, frame_len, frame_len, &header) == NBMF_OK && !header.complete &&
			  header.raw_len == NBMF_NEURAL_SHORT_MAX && header.object == 7 &&
			  header.header_len == 4,
		  "header");
	CHECK(nbmf_decode(&ws, &objects, frame, frame_len, decoded, header.raw_len, &header) ==
				  NBMF_OK &&
			  header.complete && header.raw_len == len &&
			  header.checksum == nbmf_checksum(content, len) && memcmp(decoded, content, len) == 0,
		  "decoding");
	CHECK(nbmf_decode(&ws, NULL, frame, frame_len, decoded, sizeof(decoded), &header) ==
			  NBMF_ERR_OBJECT,
		  "without the model");
	for (size_t cut = 0; cut < frame_len; cut++)
	{
		uint8_t *part = exact_copy(frame, cut);
		NbmfStatus status =
			nbmf_decode(&ws, &objects, part, cut, decoded, sizeof(decoded), &header);

		/* two bytes of checksum: one in 65536 is not found out */
		missed += status == NBMF_OK;
		free(part);
	}
	for (size_t bit = 8 * 4; bit < 8 * frame_len; bit++)
	{
		uint8_t *other = exact_copy(frame, frame_len);

		other[bit / 8] ^= (uint8_t) (1u << bit % 8);
		if (nbmf_decode(&ws, &objects, other, frame_len, decoded, sizeof(decoded), &header) ==
				NBMF_OK &&
			(header.raw_len != len || memcmp(decoded, content, len) != 0))
			missed++;
		free(other);
	}
	CHECK(missed == 0, "%d", missed);
	free(frame);
}

static void
wrong_model(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params = {.slots = 300};
	NbmfEncodeParams encode = {.kind = NBMF_KIND_TEXT, .level = 3, .model = &model};
	void *other_stored = NULL;
	size_t other_len = 0;
	NbmfModel other = {0};
	int refused = 0;

	sample.count /= 2;
	if (!CHECK(nbmf_model_train(&sample, &params, &other_stored, &other_len) == NBMF_OK &&
				   neural_model_open(other_stored, other_len, &other),
			   "other model"))
		return;
	for (uint32_t i = 0; i < 50; i++)
	{
		uint8_t content[NEURAL_DOCUMENT_ROOM];
		uint8_t frame[2000];
		uint8_t decoded[NBMF_NEURAL_SHORT_MAX];
		size_t len = neural_document(4000 + i, content);
		size_t frame_len;
		NbmfFrame header;
		NbmfStatus status;

		CHECK(nbmf_encode(&ws, &encode, content, len, frame, sizeof(frame), &frame_len) == NBMF_OK,
			  "encoding");
		status = nbmf_decode(&ws, &(NbmfObjects){.model = &other}, frame, frame_len, decoded,
							 sizeof(decoded), &header);
		refused += status == NBMF_ERR_CHECKSUM || status == NBMF_ERR_PAYLOAD;
	}
	CHECK(refused == 50, "%d of 50 refused", refused);
	neural_model_close(&other);
	free(other_stored);
}

/* Both forms at the length where they meet, and what a model does not fit */
static void
frames(void)
{
	static const size_t lens[] = {1, 16383, 16384, 70000};
	NbmfEncodeParams params = {.level = 3, .model = &model};
	NbmfObjects objects = {.model = &model};

	for (int p = 0; p < PATTERNS; p++)
		for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
		{
			uint8_t *content = pattern_alloc((Pattern) p, lens[l]);
			size_t bound = nbmf_encode_bound(lens[l]);
			uint8_t *frame = exact_alloc(bound);
			uint8_t *without = exact_alloc(bound);
			size_t frame_len = 0;
			size_t without_len = 0;
			NbmfFrame header;
			uint8_t *decoded;

			params.model = NULL;
			CHECK(nbmf_encode(&ws, &params, content, lens[l], without, bound, &without_len) ==
					  NBMF_OK,
				  "without a model");
			params.model = &model;
			CHECK(nbmf_encode(&ws, &params, content, lens[l], frame, bound, &frame_len) ==
						  NBMF_OK &&
					  frame_len <= without_len,
				  "pattern %d, %zu bytes", p, lens[l]);
			CHECK(nbmf_frame_parse(frame, frame_len, frame_len, &header) == NBMF_OK, "parsing");
			if (nbmf_codec_has_model(header.codec))
				CHECK(header.codec ==
						  (lens[l] <= 16383 ? NBMF_CODEC_NEURAL : NBMF_CODEC_NEURAL_LONG),
					  "form");
			decoded = exact_alloc(header.raw_len);
			CHECK(nbmf_decode(&ws, header.object != 0 ? &objects : NULL, frame, frame_len, decoded,
							  header.raw_len, &header) == NBMF_OK &&
					  header.raw_len == lens[l] && memcmp(decoded, content, lens[l]) == 0,
				  "pattern %d, %zu bytes", p, lens[l]);
			free(decoded);
			free(without);
			free(frame);
			free(content);
		}
}

/* A stored model: every truncation and every changed byte is refused */
static void
stored_models(void)
{
	NbmfModel other = {0};
	NbmfSample none = {0};
	NbmfModelParams params = {.slots = 0};
	void *nothing = NULL;
	size_t bytes;

	if (!prepare())
		return;
	CHECK(nbmf_model_train(&none, &params, &nothing, &bytes) == NBMF_ERR_CONTENT, "no documents");
	CHECK(nbmf_model_load(stored, stored_len, NULL, 100) == NBMF_ERR_SPACE, "no room");
	for (size_t cut = 0; cut < stored_len; cut += 1 + cut / 50)
		CHECK(!neural_model_open(stored, cut, &other), "cut at %zu", cut);
	for (size_t at = 0; at < stored_len; at += 1 + at / 50)
	{
		uint8_t *copy = exact_copy(stored, stored_len);

		copy[at] ^= 0x10;
		CHECK(!neural_model_open(copy, stored_len, &other), "byte %zu", at);
		free(copy);
	}
}

/*
 * Models of several sizes from one pass over the documents: the largest is the one that
 * training makes, the smaller ones are smaller in all that they keep, and do less well.
 */
static void
sizes(void)
{
	NbmfSample sample = neural_sample();
	NbmfModelParams params[] = {{.slots = 0}, {.slots = 2000}, {.slots = 500}, {.slots = 100}};
	struct NeuralTrainer *learned = NULL;
	NbmfModel whole = {0};
	size_t last_len = SIZE_MAX;
	size_t last_image = SIZE_MAX;
	size_t last_made = 0;

	if (!prepare())
		return;
	whole = model;
	CHECK(nbmf_model_learn(&sample, NULL, &learned) == NBMF_OK, "learning");
	for (size_t p = 0; p < sizeof(params) / sizeof(*params) && learned != NULL; p++)
	{
		void *made = NULL;
		void *again = NULL;
		size_t len = 0;
		size_t again_len = 0;
		size_t sum = 0;

		if (!CHECK(nbmf_model_make(learned, &params[p], &made, &len) == NBMF_OK &&
					   nbmf_model_train(&sample, &params[p], &again, &again_len) == NBMF_OK &&
					   len == again_len && memcmp(made, again, len) == 0 &&
					   neural_model_open(made, len, &model),
				   "%zu slots", params[p].slots))
			break;
		CHECK(p > 0 || (len == stored_len && memcmp(made, stored, len) == 0), "the largest");
		for (uint32_t i = 0; i < 100; i++)
		{
			uint8_t content[NEURAL_DOCUMENT_ROOM];
			size_t content_len = neural_document(7000 + i, content);

			sum += round_trip(NBMF_NEURAL_SHORT, NULL, 0, content, content_len);
		}
		CHECK(len < last_len && model.image_len < last_image && sum > last_made,
			  "%zu slots: %zu bytes stored, %zu loaded, 100 documents in %zu", params[p].slots, len,
			  model.image_len, sum);
		last_len = len;
		last_image = model.image_len;
		last_made = sum;
		neural_model_close(&model);
		free(made);
		free(again);
	}
	nbmf_learned_free(learned);
	model = whole;
}

static unsigned asked;
static unsigned stop_at;

static bool
interrupt(void)
{
	return ++asked == stop_at;
}

/* Training can be stopped in the middle of a document, and while it stores */
static void
interruption(void)
{
	const size_t sizes[] = {100000, 100000};
	uint8_t *content = pattern_alloc(PATTERN_NOISE, sizes[0] + sizes[1]);
	NbmfSample sample = {content, sizes, 2};
	NbmfModelParams params = {.slots = 100, .interrupted = interrupt};
	void *made = NULL;
	size_t len;
	unsigned calls;

	asked = stop_at = 0;
	CHECK(nbmf_model_train(&sample, &params, &made, &len) == NBMF_OK, "training");
	free(made);
	calls = asked;
	CHECK(calls > 20, "asked %u times", calls);
	for (stop_at = 1; stop_at <= calls; stop_at += 1 + calls / 4)
	{
		made = NULL;
		asked = 0;
		CHECK(nbmf_model_train(&sample, &params, &made, &len) == NBMF_ERR_INTERRUPTED &&
				  asked == stop_at && made == NULL,
			  "stopped at %u", stop_at);
	}
	free(content);
}

void
test_neural(bool quick)
{
	(void) quick;
	tap_run("neural: training can be stopped", interruption);
	tap_run("neural: documents like those of the sample", documents);
	tap_run("neural: patterns of many lengths", patterns);
	tap_run("neural: every byte", every_byte);
	tap_run("neural: with a history", with_history);
	tap_run("neural: prefixes of the long form", prefixes);
	tap_run("neural: the same bits without vector instructions", same_bits);
	tap_run("neural: room", space);
	tap_run("neural: damaged payloads", damage);
	tap_run("neural: another model", wrong_model);
	tap_run("neural: frames", frames);
	tap_run("neural: stored models", stored_models);
	tap_run("neural: models of several sizes", sizes);
	neural_model_close(&model);
	free(stored);
	free(state);
	nbmf_workspace_free(&ws);
}
