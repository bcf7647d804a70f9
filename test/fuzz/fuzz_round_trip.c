/*
 * fuzz_round_trip.c
 *		Arbitrary content, encoded with parameters from the first bytes of the
 *		input, and decoded.
 *
 *	byte 0: kind, tier, and what happened in the workspace before: 0x40 for
 *			content that does not compress, 0x80 for a trim
 *	byte 1: level
 *	byte 2: how often the rest is repeated, for long content from short input
 *	byte 3: which call of the interrupt test says stop; 0: none
 */
#include "codec/codec.h"

#include "require.h"

#include <string.h>

#define PARAMS_LEN 4

/* A stored frame's header: the most that a frame has on top of its content */
#define STORED_HEADER 5

static unsigned interrupt_calls;
static unsigned interrupt_at;

static bool
interrupt(void)
{
	return ++interrupt_calls == interrupt_at;
}

static void
before(NbmfWorkspace *ws, uint8_t what)
{
	NbmfEncodeParams params = {.level = 3};
	uint8_t noise[256];
	uint8_t frame[1000];
	size_t frame_len;

	if (what & 0x40)
	{
		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (uint8_t) (i * i * 167 + i * 31 + (i >> 3));
		REQUIRE(nbmf_encode(ws, &params, noise, sizeof(noise), frame, sizeof(frame), &frame_len) ==
				NBMF_OK);
		REQUIRE(frame_len == sizeof(noise) + STORED_HEADER);
	}
	if (what & 0x80)
		nbmf_workspace_trim(ws, 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	NbmfEncodeParams params = {.interrupted = interrupt};
	/* a new one each time, so that an input does the same when it is run again */
	NbmfWorkspace ws = {0};
	NbmfFrame header;
	NbmfStatus status;
	size_t part;
	size_t times;
	size_t len;
	size_t bound;
	size_t frame_len = 0;
	uint8_t *content;
	uint8_t *decoded;
	uint8_t *frame;
	uint8_t *exact;

	if (size < PARAMS_LEN)
		return 0;
	before(&ws, data[0]);
	params.kind = (NbmfKind) (data[0] & 3);
	params.tier = (NbmfTier) ((data[0] >> 2 & 3) % 3);
	params.level = NBMF_LEVEL_MIN + data[1] % NBMF_LEVEL_MAX;
	part = size - PARAMS_LEN;
	times = 1 + (size_t) data[2];
	/* high levels are slow on long content */
	if (params.level > 9 && part * times > 200000)
		params.level = 9;
	len = part * times;
	if (params.kind == NBMF_KIND_VECTOR && (len == 0 || len % 4 != 0))
		params.kind = NBMF_KIND_BYTEA;
	interrupt_calls = 0;
	interrupt_at = data[3];

	content = malloc(len);
	for (size_t i = 0; i < times && part > 0; i++)
		memcpy(content + i * part, data + PARAMS_LEN, part);
	bound = nbmf_encode_bound(len);
	frame = malloc(bound);
	REQUIRE(nbmf_encode(&ws, &params, content, len, frame, bound - 1, &frame_len) ==
			NBMF_ERR_SPACE);
	status = nbmf_encode(&ws, &params, content, len, frame, bound, &frame_len);
	if (len <= NBMF_CHUNK)
		REQUIRE(interrupt_calls == 0);
	if (interrupt_at > 0 && interrupt_calls == interrupt_at)
		REQUIRE(status == NBMF_ERR_INTERRUPTED);
	else
	{
		REQUIRE(status == NBMF_OK);
		REQUIRE(frame_len <= len + STORED_HEADER);

		exact = malloc(frame_len);
		memcpy(exact, frame, frame_len);
		decoded = malloc(len);
		REQUIRE(nbmf_decode(&ws, NULL, exact, frame_len, decoded, len, &header) == NBMF_OK);
		REQUIRE(header.raw_len == len && header.kind == params.kind && header.tier == params.tier);
		REQUIRE(header.checksum == nbmf_checksum(content, len));
		REQUIRE(len == 0 || memcmp(content, decoded, len) == 0);
		free(decoded);
		free(exact);
	}
	free(frame);
	free(content);
	nbmf_workspace_free(&ws);
	return 0;
}
