/*
 * crypto.h
 *		What nbmf takes from OpenSSL.
 */
#ifndef NBMF_CRYPTO_H
#define NBMF_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBMF_SHA256_LEN 32

extern bool nbmf_sha256(const void *data, size_t len, uint8_t digest[NBMF_SHA256_LEN]);

#endif /* NBMF_CRYPTO_H */
