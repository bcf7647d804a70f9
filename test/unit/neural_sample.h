/*
 * neural_sample.h
 *		Documents to train small models on, and others of the same kind to try
 *		them with.  Frozen: the golden model was trained on them.
 */
#ifndef NBMF_TEST_NEURAL_SAMPLE_H
#define NBMF_TEST_NEURAL_SAMPLE_H

#include "codec/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEURAL_SAMPLE_DOCUMENTS 160
#define NEURAL_DOCUMENT_ROOM    400

static inline uint32_t
neural_sample_random(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 16) % below;
}

/* The document of a number, in NEURAL_DOCUMENT_ROOM bytes; returns its length */
static inline size_t
neural_document(uint32_t number, uint8_t *dst)
{
	static const char *const names[8] = {"anna",  "boris",  "chiara", "dmitri",
										 "elena", "farouk", "grace",  "hiroshi"};
	static const char *const things[8] = {"a flight to Lisbon",       "the invoice of last month",
										  "a table for four persons", "two seats by the window",
										  "the report on storage",    "a new password",
										  "the address of the firm",  "an answer by Friday"};
	uint32_t state = number * 2654435761u + 12345u;
	const char *name = names[neural_sample_random(&state, 8)];
	const char *thing = things[neural_sample_random(&state, 8)];
	unsigned id = neural_sample_random(&state, 60000);
	unsigned n = neural_sample_random(&state, 100);
	char text[NEURAL_DOCUMENT_ROOM];

	if (number % 3 == 0)
		snprintf(text, sizeof(text),
				 "{\"id\": %u, \"role\": \"user\", \"name\": \"%s\", \"text\": \"I would like %s, "
				 "please.\", \"meta\": {\"tokens\": %u, \"lang\": \"en\"}}",
				 id, name, thing, n);
	else if (number % 3 == 1)
		snprintf(text, sizeof(text),
				 "2024-05-%02u 12:%02u:07 INFO gateway[%u]: request %u from %s took %u ms",
				 n % 28 + 1, n % 60, id % 7, id, name, n * 3);
	else
		snprintf(text, sizeof(text), "%s asked for %s, and was told to wait for %u minutes.", name,
				 thing, n);
	memcpy(dst, text, strlen(text));
	return strlen(text);
}

/* A sample of documents 0 .. NEURAL_SAMPLE_DOCUMENTS - 1, in static memory */
static inline NbmfSample
neural_sample(void)
{
	static uint8_t bytes[NEURAL_SAMPLE_DOCUMENTS * NEURAL_DOCUMENT_ROOM];
	static size_t sizes[NEURAL_SAMPLE_DOCUMENTS];
	size_t at = 0;

	for (uint32_t i = 0; i < NEURAL_SAMPLE_DOCUMENTS; i++)
	{
		sizes[i] = neural_document(i, bytes + at);
		at += sizes[i];
	}
	return (NbmfSample){bytes, sizes, NEURAL_SAMPLE_DOCUMENTS};
}

/* Load a stored model; neural_model_close frees it */
static inline bool
neural_model_open(const void *stored, size_t len, NbmfModel *model)
{
	size_t bytes;
	void *raw;

	if (nbmf_model_memory(stored, len, &bytes) != NBMF_OK)
		return false;
	raw = malloc(bytes);
	if (raw == NULL)
		return false;
	if (nbmf_model_load(stored, len, raw, bytes) != NBMF_OK)
	{
		free(raw);
		return false;
	}
	model->id = 7;
	model->image = raw;
	model->image_len = bytes;
	return true;
}

static inline void
neural_model_close(NbmfModel *model)
{
	free((void *) (uintptr_t) model->image);
	memset(model, 0, sizeof(*model));
}

#endif /* NBMF_TEST_NEURAL_SAMPLE_H */
