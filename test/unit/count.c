/*
 * count.c
 *		One nbmf_encode, one nbmf_decode and one nbmf_fingerprint of a document of
 *		1 KB, for callgrind.
 *
 * "make count-core" counts the instructions of the last call only, by zeroing
 * its counters when count_encode, count_decode or count_fingerprint is entered:
 * contexts have then been created and symbols been resolved, as in a server that
 * has been running for a while.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENT_LEN 1024

static NbmfWorkspace ws;
static uint8_t content[DOCUMENT_LEN];
static uint8_t decoded[DOCUMENT_LEN];
static uint8_t frame[2 * DOCUMENT_LEN];
static size_t frame_len;
static NbmfStatus status;
static uint64_t fingerprint;

extern void count_encode(void);
extern void count_decode(void);
extern void count_fingerprint(void);

__attribute__((noinline)) void
count_encode(void)
{
	NbmfEncodeParams params = {.kind = NBMF_KIND_JSON, .tier = NBMF_TIER_L1, .level = 3};

	status = nbmf_encode(&ws, &params, content, sizeof(content), frame, sizeof(frame), &frame_len);
}

__attribute__((noinline)) void
count_decode(void)
{
	NbmfFrame header;

	status = nbmf_decode(&ws, NULL, frame, frame_len, decoded, sizeof(decoded), &header);
}

__attribute__((noinline)) void
count_fingerprint(void)
{
	NbmfFingerprint out;

	nbmf_fingerprint(NBMF_KIND_JSON, content, sizeof(content), &out);
	fingerprint = out.simhash;
}

int
main(void)
{
	pattern_fill(PATTERN_JSON, content, sizeof(content));
	for (int i = 0; i < 10; i++)
	{
		/* the last round is the one that counts */
		count_encode();
		if (status == NBMF_OK)
			count_decode();
		count_fingerprint();
		if (status != NBMF_OK || fingerprint == 0 || memcmp(content, decoded, sizeof(content)) != 0)
		{
			fprintf(stderr, "round trip failed: status %d\n", (int) status);
			return 1;
		}
	}
	nbmf_workspace_free(&ws);
	return 0;
}
