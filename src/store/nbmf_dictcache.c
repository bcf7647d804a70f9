/*
 * nbmf_dictcache.c
 *		A backend's cache of digested dictionaries.
 *
 * Reading a dictionary and having libzstd digest it takes a fraction of a
 * millisecond, decoding a value with it microseconds, so a backend keeps what
 * it has used last, up to nbmf.dictionary_cache.  An entry is never freed
 * while a caller uses it: only these functions free entries, and a caller is
 * done with one before it calls for another.
 *
 * Objects never change, so entries need no invalidation, but for the extension
 * being dropped and created again, which starts ids anew: the cache belongs to
 * one nbmf.object and is emptied when that is another relation.
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "compat.h"
#include "store/store.h"

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
	}
}

static CacheEntry *
lookup(uint32 id)
{
	CacheEntry *entry;
	bytea *payload;
	MemoryContext old;
	bool found;

	check_relation();
	entry = hash_search(cache, &id, HASH_FIND, NULL);
	if (entry != NULL)
	{
		dlist_move_head(&lru, &entry->lru);
		return entry;
	}

	old = MemoryContextSwitchTo(cache_context);
	found = nbmf_object_read(id, &payload);
	MemoryContextSwitchTo(old);
	if (!found)
		return NULL;

	entry = hash_search(cache, &id, HASH_ENTER, &found);
	memset(&entry->dict, 0, sizeof(entry->dict));
	entry->payload = payload;
	entry->dict.id = id;
	entry->dict.bytes = VARDATA(payload);
	entry->dict.len = VARSIZE(payload) - VARHDRSZ;
	entry->memory = 0;
	dlist_push_head(&lru, &entry->lru);
	settle(entry);
	return entry;
}

static void
report_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("Failed to digest a dictionary.")));
}

/*
 * The dictionary with that id, ready to decode with; NULL if there is no such
 * object.  Valid until the next call of either function.
 */
const NbmfDict *
nbmf_dict_for_decode(uint32 id)
{
	CacheEntry *entry = lookup(id);

	if (entry == NULL)
		return NULL;
	if (entry->dict.ddict == NULL)
	{
		if (nbmf_dict_prepare_decode(&entry->dict) != NBMF_OK)
			report_memory();
		settle(entry);
	}
	return &entry->dict;
}

/*
 * The same, ready to encode with at a level, and to decode with.
 */
const NbmfDict *
nbmf_dict_for_encode(uint32 id, int level)
{
	CacheEntry *entry = lookup(id);

	if (entry == NULL)
		return NULL;
	if (entry->dict.cdict == NULL || entry->dict.level != level)
	{
		if (nbmf_dict_prepare_encode(&entry->dict, level) != NBMF_OK ||
			nbmf_dict_prepare_decode(&entry->dict) != NBMF_OK)
			report_memory();
		settle(entry);
	}
	return &entry->dict;
}

void
nbmf_store_init(void)
{
	DefineCustomIntVariable(
		"nbmf.dictionary_cache", "Memory for dictionaries that a session keeps.",
		"What was used last is kept; the one in use is, whatever its size.", &nbmf_dictionary_cache,
		16 * 1024, 0, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}
