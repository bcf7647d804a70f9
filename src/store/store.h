/*
 * store.h
 *		Shared objects: what values of one column share and refer to by id.
 *
 * An object is a row of the table nbmf.object.  Rows are only ever added, by
 * nbmf_object_mint, in a transaction of their own that commits before any
 * value refers to the object; so whoever has a value can read its object, no
 * matter which snapshot or role it reads with.
 */
#ifndef NBMF_STORE_H
#define NBMF_STORE_H

#include "codec/codec.h"
#include "compat.h"

/* Objects that values of one kind are encoded with; 0: none */
typedef struct NbmfObjectIds
{
	uint32 dictionary;
	uint32 model;
} NbmfObjectIds;

/* nbmf_object.c */
extern Oid nbmf_object_relation(void);
extern NbmfStatus nbmf_object_read(uint32 id, bytea **payload);
extern char *nbmf_object_owner(uint32 id);

/* nbmf_dictcache.c */
extern NbmfStatus nbmf_dict_for_decode(uint32 id, const NbmfDict **dict);
extern NbmfStatus nbmf_dict_for_encode(uint32 id, int level, const NbmfDict **dict);

/* nbmf_modelcache.c */
extern NbmfStatus nbmf_model_for(uint32 id, const NbmfModel **model);

extern void nbmf_store_init(void);

#endif /* NBMF_STORE_H */
