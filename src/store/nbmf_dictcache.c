/*
 * nbmf_dictcache.c
 *		Dictionaries, digested and kept: where from is decided here.
 *
 * Reading a dictionary and having libzstd digest it takes a fraction of a
 * millisecond, decoding a value with it microseconds, so what has been digested
 * is kept: in shared memory for all sessions if there is some
 * (nbmf_sharedcache.c), else, and for what does not fit there, in a cache of the
 * backend's own, which holds what it has used last, up to
 * nbmf.dictionary_cache.  An entry is never freed while a caller uses it: only
 * these functions free entries, and a caller is done with one before it calls
 * for another.
 *
 * Objects never change, so entries need no invalidation, but for the extension
 * being dropped and created again, which starts ids anew: the cache belongs to
 * one nbmf.object and is emptied when that is another relation.
 */
#include "postgres.h"

#include <limits.h>

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "compat.h"
#include "store/store_cache.h"

PG_FUNCTION_INFO_V1(nbmf_stat_cache);

typedef struct CacheEntry
{
	uint32 id; /* key */
	dlist_node lru;
	NbmfDict dict;
	bytea *payload;
	Size memory;
} CacheEntry;

static int nbmf_dictionary_cache = 16 * 1024; /* kB */

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static dlist_head lru = DLIST_STATIC_INIT(lru); /* most recent first */
static Size cache_memory = 0;
static Oid cache_relation = InvalidOid;
static bool relation_checked = false;
static uint64 hits = 0;
static uint64 misses = 0;
static uint64 evictions = 0;

static void
drop_entry(CacheEntry *entry)
{
	cache_memory -= entry->memory;
	dlist_delete(&entry->lru);
	nbmf_dict_free(&entry->dict);
	pfree(entry->payload);
	hash_search(cache, &entry->id, HASH_REMOVE, NULL);
}

static void
empty_cache(void)
{
	while (!dlist_is_empty(&lru))
		drop_entry(dlist_head_element(CacheEntry, lru, &lru));
}

static void
relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == cache_relation)
		relation_checked = false;
}

static void
check_relation(void)
{
	Oid relation;

	if (relation_checked)
		return;
	if (cache == NULL)
	{
		HASHCTL control = {.keysize = sizeof(uint32), .entrysize = sizeof(CacheEntry)};

		cache_context =
			AllocSetContextCreate(CacheMemoryContext, "nbmf dictionaries", ALLOCSET_DEFAULT_SIZES);
		control.hcxt = cache_context;
		cache =
			hash_create("nbmf dictionaries", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	}
	relation = nbmf_object_relation();
	if (relation != cache_relation)
		empty_cache();
	cache_relation = relation;
	relation_checked = true;
}

/*
 * nbmf.object, to which everything that is cached belongs.
 */
Oid
nbmf_cache_relation(void)
{
	check_relation();
	return cache_relation;
}

/*
 * Account for what libzstd has allocated since, and free what was used longest
 * ago.  The entry itself stays, however large it is.
 */
static void
settle(CacheEntry *entry)
{
	Size memory = VARSIZE(entry->payload) + nbmf_dict_memory(&entry->dict);

	cache_memory += memory - entry->memory;
	entry->memory = memory;
	while (cache_memory > (Size) nbmf_dictionary_cache * 1024)
	{
		CacheEntry *oldest = dlist_tail_element(CacheEntry, lru, &lru);

		if (oldest == entry)
			break;
		drop_entry(oldest);
		evictions++;
	}
}

static CacheEntry *
find_entry(uint32 id)
{
	return dlist_is_empty(&lru) ? NULL : hash_search(cache, &id, HASH_FIND, NULL);
}

/*
 * A digest in shared memory, put there if need be; NULL if that cannot be.
 */
static const void *
shared_digest(uint32 id, NbmfObjectUse use, int level)
{
	NbmfSharedKey key = {MyDatabaseId, cache_relation, id, (uint16) use, (uint16) level};
	const void *digest = nbmf_shared_lookup(&key);
	NbmfSharedRoom room;
	bytea *payload;
	Size len;
	Size size;

	if (digest != NULL || nbmf_object_read(id, &payload) != NBMF_OK)
		return digest;
	len = VARSIZE(payload) - VARHDRSZ;
	size = use == NBMF_USE_ENCODE ? nbmf_dict_encode_room(len, level) : nbmf_dict_decode_room(len);
	if (nbmf_shared_allocate(size, &room))
	{
		digest =
			use == NBMF_USE_ENCODE
				? (const void *) nbmf_dict_place_encode(room.address, size, VARDATA(payload), len,
														level)
				: (const void *) nbmf_dict_place_decode(room.address, size, VARDATA(payload), len);
		if (digest == NULL)
			nbmf_shared_discard(&room);
		else
			digest = nbmf_shared_insert(&key, &room, digest);
	}
	pfree(payload);
	return digest;
}

/*
 * A dictionary in shared memory; level 0 is for decoding only.  NULL if it is
 * not there and does not fit, or is in the backend's own cache for that reason.
 */
static const NbmfDict *
shared_dict(uint32 id, int level)
{
	static NbmfDict result[NBMF_OBJECT_USES];
	NbmfObjectUse use = level > 0 ? NBMF_USE_ENCODE : NBMF_USE_DECODE;
	NbmfDict *dict = &result[use];

	if (!nbmf_shared_cache_is_on() || find_entry(id) != NULL)
		return NULL;
	dict->id = id;
	dict->level = level;
	dict->cdict = level > 0 ? shared_digest(id, NBMF_USE_ENCODE, level) : NULL;
	if (level > 0 && dict->cdict == NULL)
		return NULL;
	dict->ddict = shared_digest(id, NBMF_USE_DECODE, 0);
	return dict->ddict != NULL ? dict : NULL;
}

static NbmfStatus
lookup(uint32 id, CacheEntry **result)
{
	CacheEntry *entry = find_entry(id);
	NbmfStatus status;
	bytea *payload;
	MemoryContext old;
	bool found;

	*result = entry;
	if (entry != NULL)
	{
		dlist_move_head(&lru, &entry->lru);
		hits++;
		return NBMF_OK;
	}
	misses++;

	old = MemoryContextSwitchTo(cache_context);
	status = nbmf_object_read(id, &payload);
	MemoryContextSwitchTo(old);
	if (status != NBMF_OK)
		return status;

	entry = hash_search(cache, &id, HASH_ENTER, &found);
	memset(&entry->dict, 0, sizeof(entry->dict));
	entry->payload = payload;
	entry->dict.id = id;
	entry->dict.bytes = VARDATA(payload);
	entry->dict.len = VARSIZE(payload) - VARHDRSZ;
	entry->memory = 0;
	dlist_push_head(&lru, &entry->lru);
	settle(entry);
	*result = entry;
	return NBMF_OK;
}

static void
report_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("Failed to digest a dictionary.")));
}

/*
 * The dictionary with that id, ready to decode with; a status and NULL if there
 * is no such object, or it is damaged.  Valid until the next call of either
 * function.
 */
NbmfStatus
nbmf_dict_for_decode(uint32 id, const NbmfDict **dict)
{
	NbmfStatus status;
	CacheEntry *entry;

	check_relation();
	*dict = shared_dict(id, 0);
	if (*dict != NULL)
		return NBMF_OK;
	status = lookup(id, &entry);
	if (status != NBMF_OK)
		return status;
	if (entry->dict.ddict == NULL)
	{
		if (nbmf_dict_prepare_decode(&entry->dict) != NBMF_OK)
			report_memory();
		settle(entry);
	}
	*dict = &entry->dict;
	return NBMF_OK;
}

/*
 * The same, ready to encode with at a level, and to decode with.
 */
NbmfStatus
nbmf_dict_for_encode(uint32 id, int level, const NbmfDict **dict)
{
	NbmfStatus status;
	CacheEntry *entry;

	check_relation();
	*dict = shared_dict(id, level);
	if (*dict != NULL)
		return NBMF_OK;
	status = lookup(id, &entry);
	if (status != NBMF_OK)
		return status;
	if (entry->dict.cdict == NULL || entry->dict.level != level)
	{
		if (nbmf_dict_prepare_encode(&entry->dict, level) != NBMF_OK ||
			nbmf_dict_prepare_decode(&entry->dict) != NBMF_OK)
			report_memory();
		settle(entry);
	}
	*dict = &entry->dict;
	return NBMF_OK;
}

/*
 * One row: the cache that serves this session, or the part of it that is
 * shared.
 */
Datum
nbmf_stat_cache(PG_FUNCTION_ARGS)
{
	NbmfCacheReport report = {(uint64) nbmf_dictionary_cache * 1024,
							  cache_memory,
							  cache != NULL ? hash_get_num_entries(cache) : 0,
							  hits,
							  misses,
							  evictions};
	TupleDesc tupdesc;
	Datum values[7];
	bool nulls[7] = {0};
	int i = 0;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (nbmf_shared_cache_is_on())
		nbmf_shared_cache_report(&report);
	values[i++] = BoolGetDatum(nbmf_shared_cache_is_on());
	values[i++] = Int64GetDatum((int64) report.size);
	values[i++] = Int64GetDatum((int64) report.used);
	values[i++] = Int64GetDatum((int64) report.entries);
	values[i++] = Int64GetDatum((int64) report.hits);
	values[i++] = Int64GetDatum((int64) report.misses);
	values[i++] = Int64GetDatum((int64) report.evictions);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

void
nbmf_store_init(void)
{
	DefineCustomIntVariable("nbmf.dictionary_cache",
							"Memory for dictionaries that a session keeps for itself.",
							"What was used last is kept; the one in use is, whatever its size. "
							"Not used for what is in nbmf.shared_cache.",
							&nbmf_dictionary_cache, 16 * 1024, 0, MAX_KILOBYTES, PGC_USERSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	nbmf_shared_cache_init();
	nbmf_model_cache_init();
}
