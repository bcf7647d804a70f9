/*
 * nbmf_sharedcache.c
 *		Digested shared objects in shared memory, for all sessions of a server.
 *
 * With nbmf in shared_preload_libraries, the server sets nbmf.shared_cache
 * bytes aside.  Whoever needs an object first digests it there, and everybody
 * else uses that digest: a new session decodes its first value without reading
 * or digesting a dictionary.  Digests are read-only; they contain pointers into
 * themselves, which is fine because the server's main shared memory is at the
 * same address in all of its processes.
 *
 * The memory is a dsa area that cannot grow; what was used longest ago makes
 * room.  An entry in use is pinned and stays.  A backend pins at most one entry
 * of each use, the one that it used last, until it needs another or its
 * transaction ends.  The lock protects the table of entries; pins and times of
 * use are atomic.  No object is read and nothing is digested under the lock:
 * two backends may digest the same object at once, and one of them gives up
 * its own.  After a crash of a backend, the server starts anew with an empty
 * cache, so no pin can be left behind.
 *
 * An entry belongs to a database and to the table nbmf.object of that name at
 * the time.  Objects never change, so there is no invalidation.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "store/store_cache.h"

/* Entries that there are at most: an object counts once for each use of it */
#define ENTRIES 1024

struct NbmfSharedEntry
{
	NbmfSharedKey key;
	dsa_pointer memory;
	Size size;
	const void *digest;
	pg_atomic_uint32 pins;
	pg_atomic_uint64 used_at; /* the clock below, when it was last pinned */
};

typedef struct SharedCache
{
	LWLock *lock;
	Size size;
	pg_atomic_uint64 clock;
	pg_atomic_uint64 hits;
	pg_atomic_uint64 misses;
	pg_atomic_uint64 evictions;
	pg_atomic_uint64 used; /* bytes of all entries */
	void *place;           /* of the dsa area */
} SharedCache;

static int nbmf_shared_cache = 64 * 1024; /* kB */

static SharedCache *shared = NULL;
static HTAB *entries = NULL;
static dsa_area *area = NULL;

/* The entry that this backend has pinned for each use */
static NbmfSharedEntry *pinned[NBMF_OBJECT_USES];

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
attach_area(void)
{
	MemoryContext old;

	if (area != NULL)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place(shared->place, NULL);
	MemoryContextSwitchTo(old);
	on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(shared->place));
}

static void
unpin(NbmfObjectUse use)
{
	if (pinned[use] != NULL)
		pg_atomic_fetch_sub_u32(&pinned[use]->pins, 1);
	pinned[use] = NULL;
}

void
nbmf_shared_unpin_all(void)
{
	for (int use = 0; use < NBMF_OBJECT_USES; use++)
		unpin(use);
}

/*
 * Pin an entry, in place of the one pinned for the same use.  The caller holds
 * the lock, in any mode.
 */
static void
pin(NbmfObjectUse use, NbmfSharedEntry *entry)
{
	pg_atomic_fetch_add_u32(&entry->pins, 1);
	pg_atomic_write_u64(&entry->used_at, pg_atomic_fetch_add_u64(&shared->clock, 1));
	unpin(use);
	pinned[use] = entry;
}

bool
nbmf_shared_cache_is_on(void)
{
	return shared != NULL;
}

/*
 * The digest with that key, pinned; NULL if there is none yet.
 */
const void *
nbmf_shared_lookup(const NbmfSharedKey *key)
{
	NbmfSharedEntry *entry = pinned[key->use];

	/* what was used last is used again, as a rule */
	if (entry != NULL && memcmp(&entry->key, key, sizeof(*key)) == 0)
		return entry->digest;

	LWLockAcquire(shared->lock, LW_SHARED);
	entry = hash_search(entries, key, HASH_FIND, NULL);
	if (entry != NULL)
		pin(key->use, entry);
	LWLockRelease(shared->lock);
	pg_atomic_fetch_add_u64(entry != NULL ? &shared->hits : &shared->misses, 1);
	return entry != NULL ? entry->digest : NULL;
}

/*
 * Remove the entry that was used longest ago and is in nobody's use; false if
 * there is none.  The caller holds the lock exclusively.
 */
static bool
evict_one(void)
{
	NbmfSharedEntry *oldest = NULL;
	NbmfSharedEntry *entry;
	HASH_SEQ_STATUS scan;

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (pg_atomic_read_u32(&entry->pins) == 0 &&
			(oldest == NULL ||
			 pg_atomic_read_u64(&entry->used_at) < pg_atomic_read_u64(&oldest->used_at)))
			oldest = entry;
	if (oldest == NULL)
		return false;
	dsa_free(area, oldest->memory);
	pg_atomic_fetch_sub_u64(&shared->used, (int64) oldest->size);
	pg_atomic_fetch_add_u64(&shared->evictions, 1);
	hash_search(entries, &oldest->key, HASH_REMOVE, NULL);
	return true;
}

/*
 * Room for a digest of that many bytes, aligned to a page of the area; false
 * if there is none to be had.  Give it to nbmf_shared_insert or
 * nbmf_shared_discard.
 */
bool
nbmf_shared_allocate(Size size, NbmfSharedRoom *room)
{
	/* one object must not drive out all others */
	if (size > shared->size / 2)
		return false;
	attach_area();
	for (;;)
	{
		bool evicted;

		room->memory = dsa_allocate_extended(area, size, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
		if (DsaPointerIsValid(room->memory))
			break;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		evicted = evict_one();
		LWLockRelease(shared->lock);
		if (!evicted)
			return false;
	}
	room->address = dsa_get_address(area, room->memory);
	room->size = size;
	return true;
}

void
nbmf_shared_discard(NbmfSharedRoom *room)
{
	dsa_free(area, room->memory);
}

/*
 * Make a digest, which lies in room, everybody's, and pin it.  If somebody else
 * has been faster, the room is given back and theirs returned; NULL, and the
 * room given back, if there are too many entries in use.
 */
const void *
nbmf_shared_insert(const NbmfSharedKey *key, NbmfSharedRoom *room, const void *digest)
{
	NbmfSharedEntry *entry;
	bool found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	do
		entry = hash_search(entries, key, HASH_ENTER_NULL, &found);
	while (entry == NULL && evict_one());
	if (entry != NULL)
	{
		if (!found)
		{
			entry->memory = room->memory;
			entry->size = room->size;
			entry->digest = digest;
			pg_atomic_init_u32(&entry->pins, 0);
			pg_atomic_init_u64(&entry->used_at, 0);
			pg_atomic_fetch_add_u64(&shared->used, (int64) room->size);
		}
		pin(key->use, entry);
		digest = entry->digest;
	}
	LWLockRelease(shared->lock);
	if (entry == NULL || found)
		nbmf_shared_discard(room);
	return entry != NULL ? digest : NULL;
}

void
nbmf_shared_cache_report(NbmfCacheReport *report)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	report->entries = hash_get_num_entries(entries);
	LWLockRelease(shared->lock);
	report->size = shared->size;
	report->used = pg_atomic_read_u64(&shared->used);
	report->hits = pg_atomic_read_u64(&shared->hits);
	report->misses = pg_atomic_read_u64(&shared->misses);
	report->evictions = pg_atomic_read_u64(&shared->evictions);
}

/*
 * A transaction has ended: what it used may make room for others.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			nbmf_shared_unpin_all();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

static Size
cache_size(void)
{
	return Max((Size) nbmf_shared_cache * 1024, dsa_minimum_size());
}

static void
cache_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	if (nbmf_shared_cache == 0)
		return;
	RequestAddinShmemSpace(
		add_size(MAXALIGN(sizeof(SharedCache)),
				 add_size(cache_size(), hash_estimate_size(ENTRIES, sizeof(NbmfSharedEntry)))));
	RequestNamedLWLockTranche("nbmf_objects", 1);
}

static void
cache_shmem_startup(void)
{
	HASHCTL control = {.keysize = sizeof(NbmfSharedKey), .entrysize = sizeof(NbmfSharedEntry)};
	SharedCache *cache;
	void *place;
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* forget what a server that crashed and restarted had */
	shared = NULL;
	area = NULL;
	memset(pinned, 0, sizeof(pinned));
	if (nbmf_shared_cache == 0)
		return;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cache = ShmemInitStruct("nbmf objects", sizeof(SharedCache), &found);
	place = ShmemInitStruct("nbmf object memory", cache_size(), &found);
	entries = ShmemInitHash("nbmf object entries", ENTRIES, ENTRIES, &control,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	if (!found)
	{
		dsa_area *made;

		cache->lock = &GetNamedLWLockTranche("nbmf_objects")->lock;
		cache->size = cache_size();
		cache->place = place;
		pg_atomic_init_u64(&cache->clock, 0);
		pg_atomic_init_u64(&cache->hits, 0);
		pg_atomic_init_u64(&cache->misses, 0);
		pg_atomic_init_u64(&cache->evictions, 0);
		pg_atomic_init_u64(&cache->used, 0);

		/* lives as long as the server, and never outside its place */
		made = dsa_create_in_place(place, cache->size, cache->lock->tranche, NULL);
		dsa_pin(made);
		dsa_set_size_limit(made, cache->size);
		dsa_detach(made);
	}
	shared = cache;
	LWLockRelease(AddinShmemInitLock);
}

void
nbmf_shared_cache_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("nbmf.shared_cache",
							"Shared memory for dictionaries and models that all sessions use.",
							"0 makes each session keep its own.", &nbmf_shared_cache, 64 * 1024, 0,
							MAX_KILOBYTES, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	RegisterXactCallback(xact_callback, NULL);
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = cache_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = cache_shmem_startup;
}
