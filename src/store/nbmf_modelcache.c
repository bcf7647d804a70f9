/*
 * nbmf_modelcache.c
 *		Models, loaded and kept, as nbmf_dictcache.c keeps dictionaries.
 *
 * A stored model is expanded to an image of some megabytes once, into shared
 * memory for all sessions if there is some, else into the session's own, which
 * holds what it has used last, up to nbmf.model_cache.  An image has no
 * pointers and is never written again.
 */
#include "postgres.h"

#include <limits.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "store/store_cache.h"

/* What an image must be aligned to */
#define IMAGE_ALIGN 64

typedef struct ModelEntry
{
	dlist_node lru;
	NbmfModel model;
	Size memory;
	/* the image, aligned, follows */
} ModelEntry;

static int nbmf_model_cache = 32 * 1024; /* kB */

static MemoryContext cache_context = NULL;
static dlist_head lru = DLIST_STATIC_INIT(lru); /* most recent first */
static Size cache_memory = 0;
static Oid cache_relation = InvalidOid;

static void
drop_entry(ModelEntry *entry)
{
	cache_memory -= entry->memory;
	dlist_delete(&entry->lru);
	pfree(entry);
}

pg_noreturn static void
report_bad_model(uint32 id, NbmfStatus status)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("cannot load model %u", id),
			 errdetail_internal("%s", status == NBMF_ERR_OBJECT ? "The object is not a model."
																: nbmf_status_text(status)),
			 errhint("Restore that row of nbmf.object from a backup, or update the nbmf "
					 "library if a newer version has made it.")));
}

/*
 * Load a stored model into room of that size.
 */
static void
load_model(uint32 id, bytea *stored, void *image, Size size)
{
	NbmfStatus status =
		nbmf_model_load(VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored), image, size);

	if (status != NBMF_OK)
		report_bad_model(id, status);
}

/*
 * The image in shared memory, put there if need be; NULL if that cannot be.
 */
static const void *
share_image(uint32 id, bytea *stored, Size size)
{
	NbmfSharedKey key = {MyDatabaseId, cache_relation, id, NBMF_USE_MODEL, 0};
	NbmfSharedRoom room;
	char *image;

	if (!nbmf_shared_cache_is_on() || !nbmf_shared_allocate(size + IMAGE_ALIGN, &room))
		return NULL;
	image = (char *) TYPEALIGN(IMAGE_ALIGN, room.address);
	PG_TRY();
	{
		load_model(id, stored, image, size);
	}
	PG_CATCH();
	{
		nbmf_shared_discard(&room);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return nbmf_shared_insert(&key, &room, image);
}

/*
 * The model with that id, ready for use; a status and NULL if there is no such
 * object, or it is damaged.  Valid until the next call.
 */
NbmfStatus
nbmf_model_for(uint32 id, const NbmfModel **model)
{
	static NbmfModel shared_model;
	NbmfSharedKey key = {MyDatabaseId, nbmf_cache_relation(), id, NBMF_USE_MODEL, 0};
	ModelEntry *entry;
	bytea *stored;
	size_t size;
	NbmfStatus status;
	dlist_iter iter;

	if (key.relation != cache_relation)
		while (!dlist_is_empty(&lru))
			drop_entry(dlist_head_element(ModelEntry, lru, &lru));
	cache_relation = key.relation;

	dlist_foreach(iter, &lru)
	{
		entry = dlist_container(ModelEntry, lru, iter.cur);
		if (entry->model.id == id)
		{
			dlist_move_head(&lru, &entry->lru);
			*model = &entry->model;
			return NBMF_OK;
		}
	}
	shared_model.id = id;
	*model = &shared_model;
	if (nbmf_shared_cache_is_on())
	{
		shared_model.image = nbmf_shared_lookup(&key);
		if (shared_model.image != NULL)
			return NBMF_OK;
	}

	*model = NULL;
	status = nbmf_object_read(id, &stored);
	if (status != NBMF_OK)
		return status;
	status = nbmf_model_memory(VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored), &size);
	if (status != NBMF_OK)
		report_bad_model(id, status);
	shared_model.image_len = size;
	shared_model.image = share_image(id, stored, size);
	if (shared_model.image != NULL)
	{
		pfree(stored);
		*model = &shared_model;
		return NBMF_OK;
	}

	if (cache_context == NULL)
		cache_context =
			AllocSetContextCreate(CacheMemoryContext, "nbmf models", ALLOCSET_DEFAULT_SIZES);
	while (!dlist_is_empty(&lru) && cache_memory + size > (Size) nbmf_model_cache * 1024)
		drop_entry(dlist_tail_element(ModelEntry, lru, &lru));
	entry = MemoryContextAllocExtended(cache_context, sizeof(ModelEntry) + size + IMAGE_ALIGN,
									   MCXT_ALLOC_HUGE);
	entry->model.id = id;
	entry->model.image = (void *) TYPEALIGN(IMAGE_ALIGN, (char *) entry + sizeof(ModelEntry));
	entry->model.image_len = size;
	entry->memory = size;
	PG_TRY();
	{
		load_model(id, stored, unconstify(void *, entry->model.image), size);
	}
	PG_CATCH();
	{
		pfree(entry);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(stored);
	cache_memory += size;
	dlist_push_head(&lru, &entry->lru);
	*model = &entry->model;
	return NBMF_OK;
}

void
nbmf_model_cache_init(void)
{
	DefineCustomIntVariable(
		"nbmf.model_cache", "Memory for learned models that a session keeps for itself.",
		"What was used last is kept; the one in use is, whatever its size. "
		"Not used for what is in nbmf.shared_cache.",
		&nbmf_model_cache, 32 * 1024, 0, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}
