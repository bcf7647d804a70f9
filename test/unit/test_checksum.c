/*
 * test_checksum.c
 *		nbmf_checksum and nbmf_sha256 against published vectors.
 *
 * The checksum is the low half of XXH64 with seed 0.  The expected values come
 * from the reference implementation ("xxhsum -H64" of xxHash 0.8), not from
 * this project's code.
 */
#include "unit.h"

#include "crypto/crypto.h"

#include <stdlib.h>
#include <string.h>

/* The bytes that the pinned values below are over */
static void
fill_pinned(uint8_t *dst, size_t len)
{
	for (size_t i = 0; i < len; i++)
		dst[i] = (uint8_t) (i * 131 + 7);
}

static void
checksum_vectors(void)
{
	static const struct
	{
		const char *text;
		uint64_t xxh64;
	} vectors[] = {
		{"", UINT64_C(0xef46db3751d8e999)},
		{"a", UINT64_C(0xd24ec4f1a98c6e5b)},
		{"abc", UINT64_C(0x44bc2cf5ad770999)},
		{"abcd", UINT64_C(0xde0327b0d25d92cc)},
		{"abcdefg", UINT64_C(0x1860940e2902822d)},
		{"message digest", UINT64_C(0x066ed728fceeb3be)},
		{"abcdefghijklmnopqrstuvwxyz", UINT64_C(0xcfe1f278fa89835c)},
		{"Nobody inspects the spammish repetition", UINT64_C(0xfbcea83c8a378bf1)},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
		 UINT64_C(0xaaa46907d3047814)},
		{"1234567890123456789012345678901234567890"
		 "1234567890123456789012345678901234567890",
		 UINT64_C(0xe04a477f19ee145d)},
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		size_t len = strlen(vectors[i].text);
		uint8_t *text = exact_copy(vectors[i].text, len);
		uint32_t got = nbmf_checksum(text, len);

		CHECK(got == (uint32_t) vectors[i].xxh64, "\"%s\" gives %08x", vectors[i].text, got);
		free(text);
	}
}

static void
checksum_all_lengths(void)
{
	uint8_t sums[201 * 4];
	uint32_t combined;

	for (size_t len = 0; len <= 200; len++)
	{
		uint8_t *data = exact_alloc(len);
		uint32_t sum;

		fill_pinned(data, len);
		sum = nbmf_checksum(data, len);
		for (size_t i = 0; i < 4; i++)
			sums[4 * len + i] = (uint8_t) (sum >> (8 * i));
		free(data);
	}
	combined = nbmf_checksum(sums, sizeof(sums));
	CHECK(combined == UINT32_C(0x04fd9012), "combined checksum is %08x", combined);
}

static void
checksum_long(void)
{
	size_t len = 1000003;
	uint8_t *data = exact_alloc(len);
	uint32_t sum;

	fill_pinned(data, len);
	sum = nbmf_checksum(data, len);
	CHECK(sum == UINT32_C(0x880ffcc2), "%zu bytes give %08x", len, sum);
	memset(data, 0, len);
	sum = nbmf_checksum(data, (size_t) 1 << 16);
	data[65535] = 1;
	CHECK(sum != nbmf_checksum(data, (size_t) 1 << 16), "last byte is not seen");
	free(data);
}

static void
checksum_alignment(void)
{
	uint8_t copy[8 + 100];
	uint8_t data[100];

	fill_pinned(data, sizeof(data));
	for (size_t shift = 0; shift < 8; shift++)
	{
		for (size_t len = 0; len <= sizeof(data); len++)
		{
			memcpy(copy + shift, data, len);
			CHECK(nbmf_checksum(copy + shift, len) == nbmf_checksum(data, len),
				  "%zu bytes at offset %zu", len, shift);
		}
	}
}

void
test_checksum(bool quick)
{
	(void) quick;
	tap_run("checksum: published XXH64 vectors", checksum_vectors);
	tap_run("checksum: every length up to 200 is pinned", checksum_all_lengths);
	tap_run("checksum: long input", checksum_long);
	tap_run("checksum: does not depend on alignment", checksum_alignment);
}

static void
check_sha256(const char *name, const uint8_t *data, size_t len, const char *hex)
{
	uint8_t digest[NBMF_SHA256_LEN];
	char got[2 * NBMF_SHA256_LEN + 1] = "";

	if (!CHECK(nbmf_sha256(data, len, digest), "no digest of %s", name))
		return;
	for (size_t i = 0; i < NBMF_SHA256_LEN; i++)
	{
		got[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		got[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	CHECK(strcmp(got, hex) == 0, "%s gives %s", name, got);
}

/* FIPS 180-4's examples, as in NIST's SHA256 test vectors */
static void
sha256_vectors(void)
{
	const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	uint8_t *million = exact_alloc(1000000);

	check_sha256("nothing", (const uint8_t *) "", 0,
				 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sha256("abc", (const uint8_t *) "abc", 3,
				 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha256("448 bits", (const uint8_t *) two_blocks, sizeof(two_blocks) - 1,
				 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', 1000000);
	check_sha256("a million a", million, 1000000,
				 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

void
test_digest(bool quick)
{
	(void) quick;
	tap_run("sha256: FIPS 180-4 vectors", sha256_vectors);
}
