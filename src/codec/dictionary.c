/*
 * dictionary.c
 *		Dictionaries as libzstd wants them: digested for encoding at a level, and
 *		for decoding, in memory of libzstd's own or in room that the caller has.
 *
 * A digest in a caller's room holds a copy of the dictionary and is read-only
 * once made.  It contains pointers into itself, so everybody who uses it must
 * see that room at the same address; then any number of processes can share it.
 */
#include "codec/codec.h"

#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

/* libzstd wants its room aligned to this */
#define ROOM_ALIGN 8

/*
 * What libzstd would choose for a dictionary by itself: it takes documents for
 * short, and this is the length it takes them for.
 */
#define TYPICAL_DOCUMENT 513

/*
 * Digest a dictionary for encoding at a level, and for decoding.
 */
NbmfStatus
nbmf_dict_prepare_encode(NbmfDict *dict, int level)
{
	if (dict->cdict != NULL && dict->level == level)
		return NBMF_OK;
	ZSTD_freeCDict((ZSTD_CDict *) dict->cdict);
	dict->cdict = ZSTD_createCDict(dict->bytes, dict->len, level);
	dict->level = level;
	return dict->cdict != NULL ? NBMF_OK : NBMF_ERR_MEMORY;
}

NbmfStatus
nbmf_dict_prepare_decode(NbmfDict *dict)
{
	if (dict->ddict == NULL)
		dict->ddict = ZSTD_createDDict(dict->bytes, dict->len);
	return dict->ddict != NULL ? NBMF_OK : NBMF_ERR_MEMORY;
}

/* What libzstd holds for it, in bytes */
size_t
nbmf_dict_memory(const NbmfDict *dict)
{
	return ZSTD_sizeof_CDict(dict->cdict) + ZSTD_sizeof_DDict(dict->ddict);
}

void
nbmf_dict_free(NbmfDict *dict)
{
	ZSTD_freeCDict((ZSTD_CDict *) dict->cdict);
	ZSTD_freeDDict((ZSTD_DDict *) dict->ddict);
	memset(dict, 0, sizeof(*dict));
}

/*
 * Bytes of room for a digest that encodes at a level, with the dictionary's copy.
 */
size_t
nbmf_dict_encode_room(size_t dict_len, int level)
{
	return ZSTD_estimateCDictSize_advanced(
		dict_len, ZSTD_getCParams(level, TYPICAL_DOCUMENT, dict_len), ZSTD_dlm_byCopy);
}

/*
 * Bytes of room for a digest that decodes, with the dictionary's copy.
 */
size_t
nbmf_dict_decode_room(size_t dict_len)
{
	return ZSTD_estimateDDictSize(dict_len, ZSTD_dlm_byCopy);
}

/*
 * Make such a digest; room must be aligned to 8 bytes.  NULL if room_len is too
 * small, which the functions above prevent, or the dictionary is damaged.
 */
const struct ZSTD_CDict_s *
nbmf_dict_place_encode(void *room, size_t room_len, const void *dict, size_t dict_len, int level)
{
	if ((uintptr_t) room % ROOM_ALIGN != 0)
		return NULL;
	return ZSTD_initStaticCDict(room, room_len, dict, dict_len, ZSTD_dlm_byCopy, ZSTD_dct_auto,
								ZSTD_getCParams(level, TYPICAL_DOCUMENT, dict_len));
}

const struct ZSTD_DDict_s *
nbmf_dict_place_decode(void *room, size_t room_len, const void *dict, size_t dict_len)
{
	if ((uintptr_t) room % ROOM_ALIGN != 0)
		return NULL;
	return ZSTD_initStaticDDict(room, room_len, dict, dict_len, ZSTD_dlm_byCopy, ZSTD_dct_auto);
}
