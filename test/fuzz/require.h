/*
 * require.h
 *		What fuzz targets demand: a condition that fails ends the program, and
 *		the fuzzer keeps the input.
 */
#ifndef NBMF_FUZZ_REQUIRE_H
#define NBMF_FUZZ_REQUIRE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(cond)                                                            \
	do                                                                           \
	{                                                                            \
		if (!(cond))                                                             \
		{                                                                        \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                             \
		}                                                                        \
	} while (0)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* NBMF_FUZZ_REQUIRE_H */
