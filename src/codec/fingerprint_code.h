/*
 * fingerprint_code.h
 *		The features of contents.  Compiled once for each kind of processor, by files
 *		that have defined what fingerprint_words.h and fingerprint_json.h ask for.
 */
#ifndef NBMF_FINGERPRINT_CODE_H
#define NBMF_FINGERPRINT_CODE_H

#include "codec/fingerprint_words.h"

#include "codec/fingerprint_json.h"

/* Every run of eight bytes */
static void
bytes_features(NbmfFeatures *out, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 8 <= len; i++)
		nbmf_feature(out, nbmf_fp_fold(nbmf_fp_term(nbmf_load64le(p + i), 0) * NBMF_FP_P4));
}

/* All features of a content that is no vector; at least one */
static void
add_features(NbmfFeatures *out, NbmfKind kind, const uint8_t *p, size_t len)
{
	out->any = 0;
	out->count = 0;
	if (kind == NBMF_KIND_JSON)
		json_features(out, p, len);
	else if (kind == NBMF_KIND_TEXT)
		text_features(out, p, len);
	else
		bytes_features(out, p, len);
	if (out->any == 0 && out->count == 0)
		nbmf_feature(out, nbmf_fp_string(0, p, len));
	nbmf_features_flush(out);
}

#include "codec/fingerprint_bins.h"

#endif /* NBMF_FINGERPRINT_CODE_H */
