/*
 * content.c
 *		Generated content for the tests, and exactly sized memory for it.
 */
/* for MAP_ANONYMOUS */
#define _DEFAULT_SOURCE

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char *const pattern_names[PATTERNS] = {"same", "noise", "words",  "mixed",
													"log",  "json",  "floats", "halves"};

static const char *const vocabulary[32] = {
	"agent",    "memory", "the",    "a",      "customer", "asked",   "for",     "refund",
	"because",  "order",  "was",    "late",   "again",    "and",     "tool",    "call",
	"returned", "no",     "result", "please", "check",    "account", "balance", "of",
	"status",   "is",     "open",   "closed", "by",       "user",    "today",   "yesterday"};

const char *
pattern_name(Pattern pattern)
{
	return pattern_names[pattern];
}

bool
pattern_by_name(const char *name, Pattern *pattern)
{
	for (int i = 0; i < PATTERNS; i++)
	{
		if (strcmp(name, pattern_names[i]) == 0)
		{
			*pattern = (Pattern) i;
			return true;
		}
	}
	return false;
}

/* splitmix64: all states are good, so any seed will do */
uint64_t
random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static void
fill_noise(uint64_t *state, uint8_t *dst, size_t len)
{
	for (size_t i = 0; i < len; i++)
		dst[i] = (uint8_t) (random_next(state) >> 56);
}

static void
fill_words(uint64_t *state, uint8_t *dst, size_t len)
{
	const char *word = "";

	for (size_t i = 0; i < len; i++)
	{
		if (*word == '\0')
		{
			word = vocabulary[random_next(state) >> 59];
			dst[i] = ' ';
		}
		else
			dst[i] = (uint8_t) *word++;
	}
}

static void
fill_mixed(uint64_t *state, uint8_t *dst, size_t len)
{
	size_t done = 0;

	for (bool noise = true; done < len; noise = !noise)
	{
		size_t stretch = 1 + (size_t) (random_next(state) >> 52);

		if (stretch > len - done)
			stretch = len - done;
		if (noise)
			fill_noise(state, dst + done, stretch);
		else
			fill_words(state, dst + done, stretch);
		done += stretch;
	}
}

static void
fill_log(uint64_t *state, uint8_t *dst, size_t len)
{
	size_t done = 0;
	unsigned request = 100000;

	while (done < len)
	{
		char line[100];
		size_t line_len;

		line_len = (size_t) sprintf(line, "2024-05-01 12:00:00 INFO gateway request=%u status=%s\n",
									request, random_next(state) >> 62 == 0 ? "retry" : "done");
		request += 1;
		if (line_len > len - done)
			line_len = len - done;
		memcpy(dst + done, line, line_len);
		done += line_len;
	}
}

/* A chat of as many turns as fit, filled up with spaces */
static void
fill_json(uint64_t *state, uint8_t *dst, size_t len)
{
	const char open[] = "{\"turns\":[";
	const char close[] = "]}";
	size_t done = sizeof(open) - 1;

	memset(dst, ' ', len);
	if (len < sizeof(open) + sizeof(close) - 2)
	{
		/* the shortest documents are numbers */
		memset(dst, '7', len);
		return;
	}
	memcpy(dst, open, done);
	for (unsigned turn = 0;; turn++)
	{
		uint8_t words[41] = {0};
		char item[160];
		size_t item_len;

		fill_words(state, words, 4 + (size_t) (random_next(state) >> 59));
		item_len = (size_t) sprintf(item, "%s{\"turn\":%u,\"role\":\"%s\",\"text\":\"%s\"}",
									turn > 0 ? "," : "", turn, turn % 2 == 0 ? "user" : "assistant",
									(char *) words);
		if (item_len + sizeof(close) - 1 > len - done)
			break;
		memcpy(dst + done, item, item_len);
		done += item_len;
	}
	memcpy(dst + done, close, sizeof(close) - 1);
}

/* Numbers from 0.5 to 1 with few significant bits, as embeddings often are */
static void
fill_floats(uint64_t *state, uint8_t *dst, size_t len)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (i % 4 == 0)
			bits = UINT32_C(0x3f000000) | (uint32_t) (random_next(state) >> 60) << 19;
		dst[i] = (uint8_t) (bits >> (8 * (i % 4)));
	}
}

void
pattern_fill(Pattern pattern, uint8_t *dst, size_t len)
{
	uint64_t state = (uint64_t) pattern;

	if (len == 0)
		return;
	switch (pattern)
	{
		case PATTERN_SAME:
			memset(dst, 'x', len);
			break;
		case PATTERN_NOISE:
			fill_noise(&state, dst, len);
			break;
		case PATTERN_WORDS:
			fill_words(&state, dst, len);
			break;
		case PATTERN_MIXED:
			fill_mixed(&state, dst, len);
			break;
		case PATTERN_LOG:
			fill_log(&state, dst, len);
			break;
		case PATTERN_JSON:
			fill_json(&state, dst, len);
			break;
		case PATTERN_FLOATS:
			fill_floats(&state, dst, len);
			break;
		case PATTERN_HALVES:
			fill_log(&state, dst, len / 2);
			fill_floats(&state, dst + len / 2, len - len / 2);
			break;
	}
}

/*
 * Memory of exactly len bytes, so that sanitizers see one byte too many.
 */
void *
exact_alloc(size_t len)
{
	void *p = malloc(len);

	if (p == NULL && len > 0)
	{
		printf("Bail out! out of memory\n");
		exit(2);
	}
	return p;
}

void *
exact_copy(const void *src, size_t len)
{
	void *p = exact_alloc(len);

	if (len > 0)
		memcpy(p, src, len);
	return p;
}

uint8_t *
pattern_alloc(Pattern pattern, size_t len)
{
	uint8_t *p = exact_alloc(len);

	pattern_fill(pattern, p, len);
	return p;
}

/* Room of guarded_copy */
#define GUARDED_ROOM ((size_t) 1 << 20)
#define GUARD_ROOM   ((size_t) 1 << 16)

/*
 * A copy of len bytes at the very end of memory that may be read: one byte too
 * many ends the program, also when libzstd reads it, which sanitizers do not
 * see.  There is one such memory; each call takes it again.
 */
const void *
guarded_copy(const void *src, size_t len)
{
	static uint8_t *end;

	if (end == NULL)
	{
		void *p = mmap(NULL, GUARDED_ROOM + GUARD_ROOM, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || mprotect((uint8_t *) p + GUARDED_ROOM, GUARD_ROOM, PROT_NONE) != 0)
		{
			printf("Bail out! no guarded memory\n");
			exit(2);
		}
		end = (uint8_t *) p + GUARDED_ROOM;
	}
	if (len > GUARDED_ROOM)
	{
		printf("Bail out! %zu bytes are too many to guard\n", len);
		exit(2);
	}
	if (len > 0)
		memcpy(end - len, src, len);
	return end - len;
}
