/*
 * digest.c
 *		SHA-256 (FIPS 180-4) through OpenSSL 3's EVP interface.
 */
#include "crypto/crypto.h"

#include <openssl/evp.h>

/*
 * Digest of len bytes.  False when OpenSSL refuses, which it does only when
 * it has no memory or its configuration offers no SHA-256.
 */
bool
nbmf_sha256(const void *data, size_t len, uint8_t digest[NBMF_SHA256_LEN])
{
	unsigned int written = 0;

	return EVP_Digest(data, len, digest, &written, EVP_sha256(), NULL) == 1 &&
		   written == NBMF_SHA256_LEN;
}
