/*
 * test_match.c
 *		Matching fingerprints: every function that this processor has against
 *		distances counted one by one.
 */
#include "unit.h"

#include <stdlib.h>

/* A page of an index has up to 580; with odd numbers, for loops over several at once */
#define KEYS_MAX 613

static bool quick_run;

/* A key at a distance of the query: whatever bits, and those at either end */
static uint64_t
key_at(uint64_t query, int distance, uint64_t *state)
{
	uint64_t flip = 0;
	int left = distance;

	while (left > 0)
	{
		uint64_t bit = UINT64_C(1) << (random_next(state) >> 58);

		left -= (flip & bit) == 0;
		flip |= bit;
	}
	return query ^ flip;
}

static void
check_match(NbmfMatch match, int rank, const uint64_t *keys, int n, uint64_t query, int distance,
			const char *ahead)
{
	uint16_t *out = exact_alloc((size_t) n * sizeof(uint16_t));
	int found = match(keys, n, query, distance, ahead, out);
	int expected = 0;
	bool same = true;

	for (int i = 0; i < n; i++)
	{
		int bits = 0;

		for (uint64_t x = keys[i] ^ query; x != 0; x &= x - 1)
			bits++;
		if (bits > distance)
			continue;
		same = same && expected < found && out[expected] == i;
		expected++;
	}
	CHECK(found == expected && same, "function %d, %d keys, distance %d: %d, not %d", rank, n,
		  distance, found, expected);
	free(out);
}

static void
every_function_counts_right(void)
{
	uint64_t state = 5;
	int rank = 0;
	NbmfMatch match;

	for (; (match = nbmf_match_function(rank)) != NULL; rank++)
	{
		for (int n = 0; n <= KEYS_MAX; n += n < 40 ? 1 : quick_run ? 191 : 59)
		{
			/* nothing behind them: sanitizers see a key too many being read */
			uint64_t *keys = exact_alloc((size_t) n * sizeof(uint64_t));
			uint64_t query = random_next(&state);

			/* all distances, those of 0 and 64 too */
			for (int i = 0; i < n; i++)
				keys[i] = key_at(query, (int) (random_next(&state) % 65), &state);
			for (int distance = 0; distance <= 64; distance++)
				check_match(match, rank, keys, n, query, distance,
							distance % 2 == 0 ? NULL : (const char *) keys);
			free(keys);
		}
	}
	CHECK(rank > 0, "there is no function");
}

void
test_match(bool quick)
{
	quick_run = quick;
	tap_run("match: every function finds what is within a distance", every_function_counts_right);
}
