/*
 * bytes.h
 *		Numbers out of bytes, little-endian and unaligned, on any machine.
 */
#ifndef NBMF_BYTES_H
#define NBMF_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t
nbmf_load32le(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	return v;
}

static inline uint64_t
nbmf_load64le(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

#endif /* NBMF_BYTES_H */
