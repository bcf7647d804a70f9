/*
 * checksum.c
 *		The 32-bit checksum of a value's content.
 *
 * It is the low half of XXH64 with seed 0, as published in the xxHash
 * specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md); the zstd
 * format uses the same function for its Content_Checksum (RFC 8878, 3.1.1).
 * The result is stored in every frame and is what the hash operator class
 * starts from, so the function is frozen: test/unit pins it.  It is written
 * out here, rather than taken from a library, because a frame's checksum may
 * depend on nothing but this project.
 *
 * It guards against damage and against decoding with a wrong dictionary, not
 * against forgery: nbmf_digest (SHA-256) is for that.
 */
#include "codec/bytes.h"
#include "codec/codec.h"

static const uint64_t P1 = UINT64_C(0x9E3779B185EBCA87);
static const uint64_t P2 = UINT64_C(0xC2B2AE3D27D4EB4F);
static const uint64_t P3 = UINT64_C(0x165667B19E3779F9);
static const uint64_t P4 = UINT64_C(0x85EBCA77C2B2AE63);
static const uint64_t P5 = UINT64_C(0x27D4EB2F165667C5);

static inline uint64_t
rotl64(uint64_t x, unsigned n)
{
	return (x << n) | (x >> (64 - n));
}

static inline uint64_t
lane_round(uint64_t acc, uint64_t input)
{
	return rotl64(acc + input * P2, 31) * P1;
}

static inline uint64_t
merge_round(uint64_t acc, uint64_t lane)
{
	return (acc ^ lane_round(0, lane)) * P1 + P4;
}

/*
 * Checksum of len bytes (any number, zero included).
 */
uint32_t
nbmf_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t left = len;
	uint64_t h;

	if (left >= 32)
	{
		uint64_t v1 = P1 + P2;
		uint64_t v2 = P2;
		uint64_t v3 = 0;
		uint64_t v4 = 0 - P1;

		do
		{
			v1 = lane_round(v1, nbmf_load64le(p));
			v2 = lane_round(v2, nbmf_load64le(p + 8));
			v3 = lane_round(v3, nbmf_load64le(p + 16));
			v4 = lane_round(v4, nbmf_load64le(p + 24));
			p += 32;
			left -= 32;
		} while (left >= 32);

		h = rotl64(v1, 1) + rotl64(v2, 7) + rotl64(v3, 12) + rotl64(v4, 18);
		h = merge_round(h, v1);
		h = merge_round(h, v2);
		h = merge_round(h, v3);
		h = merge_round(h, v4);
	}
	else
		h = P5;

	h += (uint64_t) len;

	for (; left >= 8; p += 8, left -= 8)
		h = rotl64(h ^ lane_round(0, nbmf_load64le(p)), 27) * P1 + P4;
	if (left >= 4)
	{
		h = rotl64(h ^ (uint64_t) nbmf_load32le(p) * P1, 23) * P2 + P3;
		p += 4;
		left -= 4;
	}
	for (; left > 0; p++, left--)
		h = rotl64(h ^ *p * P5, 11) * P1;

	h ^= h >> 33;
	h *= P2;
	h ^= h >> 29;
	h *= P3;
	h ^= h >> 32;
	return (uint32_t) h;
}
