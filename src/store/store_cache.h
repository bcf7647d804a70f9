/*
 * store_cache.h
 *		Inside the room store: the cache in shared memory, as the backend's own
 *		cache uses it.
 */
#ifndef NBMF_STORE_CACHE_H
#define NBMF_STORE_CACHE_H

#include "utils/dsa.h"

#include "store/store.h"

/* What an object is digested for */
typedef enum NbmfObjectUse
{
	NBMF_USE_DECODE,
	NBMF_USE_ENCODE,
	NBMF_USE_MODEL /* encoding and decoding alike */
} NbmfObjectUse;

#define NBMF_OBJECT_USES (NBMF_USE_MODEL + 1)

/* Hashed and compared as bytes: no padding */
typedef struct NbmfSharedKey
{
	Oid database;
	Oid relation; /* nbmf.object */
	uint32 object;
	uint16 use;
	uint16 level; /* 0 unless use is NBMF_USE_ENCODE */
} NbmfSharedKey;

StaticAssertDecl(sizeof(NbmfSharedKey) == 16, "a key has no padding");

typedef struct NbmfSharedEntry NbmfSharedEntry;

typedef struct NbmfSharedRoom
{
	dsa_pointer memory;
	Size size;
	void *address;
} NbmfSharedRoom;

/* What pg_stat_nbmf_cache shows */
typedef struct NbmfCacheReport
{
	uint64 size;
	uint64 used;
	uint64 entries;
	uint64 hits;
	uint64 misses;
	uint64 evictions;
} NbmfCacheReport;

/* nbmf_dictcache.c */
extern Oid nbmf_cache_relation(void);

/* nbmf_sharedcache.c */
extern bool nbmf_shared_cache_is_on(void);
extern const void *nbmf_shared_lookup(const NbmfSharedKey *key);
extern bool nbmf_shared_allocate(Size size, NbmfSharedRoom *room);
extern void nbmf_shared_discard(NbmfSharedRoom *room);
extern const void *nbmf_shared_insert(const NbmfSharedKey *key, NbmfSharedRoom *room,
									  const void *digest);
extern void nbmf_shared_unpin_all(void);
extern void nbmf_shared_cache_report(NbmfCacheReport *report);
extern void nbmf_shared_cache_init(void);

/* nbmf_modelcache.c */
extern void nbmf_model_cache_init(void);

#endif /* NBMF_STORE_CACHE_H */
