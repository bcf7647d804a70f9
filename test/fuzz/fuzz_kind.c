/*
 * fuzz_kind.c
 *		Arbitrary bytes as a text whose kind is asked for, compared with a
 *		recogniser that is written differently.
 */
#include "codec/codec.h"

#include "json_reference.h"
#include "require.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* nothing behind it: the sanitizer sees a byte too many being read */
	uint8_t *text = malloc(size);

	if (size > 0)
		memcpy(text, data, size);
	REQUIRE(nbmf_json_valid(text, size) == reference_json_valid(text, size));
	REQUIRE(nbmf_hex_valid(text, size) == reference_hex_valid(text, size));
	free(text);
	return 0;
}
