/*
 * cas_cache.c
 *		What a backend remembers of the ways from values to buckets.
 *
 * A way says: for values from this one on, begin at this block; and in which
 * buffer the block was last seen.  Ways are read from the directory when they
 * are first needed, a group of values at a time, and added when a reader had to
 * go right.  Like the directory itself, what is remembered may be behind but
 * not wrong, as long as the index has the same file; so nothing needs to be
 * invalidated.  A file that is truncated and filled again (a temporary table's
 * at commit) is found out by pages that are not where they should be, and the
 * directory is asked again.
 *
 * The own pages of values (see cas_directory.c) are not remembered, but that
 * there are such pages is.
 *
 * Roots are copied, for planning; a copy is renewed now and then.
 */
#include "postgres.h"

#include "storage/buf_internals.h"
#include "utils/memutils.h"

#include "cas/cas.h"

/* Indexes that a backend remembers */
#define REMEMBERED 8

/* Uses of a copy of a root */
#define ROOT_USES 1000

typedef struct WayGroup
{
	int n; /* 0: not read yet */
	int room;
	CasWay *way; /* in the order of values */
} WayGroup;

typedef struct Cache
{
	Oid index; /* InvalidOid: free */
	Oid file;
	uint64 used; /* when it was last used */
	MemoryContext context;
	CasRoot *root[CAS_TABLES];
	int root_uses[CAS_TABLES];
	WayGroup group[CAS_TABLES][CAS_GROUPS];
} Cache;

static Cache *caches[REMEMBERED];
static uint64 clock_hand = 0;

static Cache *
find_cache(Relation index)
{
	Oid oid = RelationGetRelid(index);
	Oid file = index->rd_rel->relfilenode;
	Cache *cache;
	MemoryContext context;
	int oldest = 0;

	for (int i = 0; i < REMEMBERED; i++)
	{
		cache = caches[i];
		if (cache != NULL && cache->index == oid)
		{
			if (cache->file == file)
			{
				cache->used = ++clock_hand;
				return cache;
			}
			oldest = i;
			break;
		}
		if (cache == NULL || (caches[oldest] != NULL && cache->used < caches[oldest]->used))
			oldest = i;
	}
	if (caches[oldest] != NULL)
	{
		context = caches[oldest]->context;
		caches[oldest] = NULL;
		MemoryContextDelete(context);
	}
	context = AllocSetContextCreate(TopMemoryContext, "nbmf_cas directory", ALLOCSET_DEFAULT_SIZES);
	cache = MemoryContextAllocZero(context, sizeof(Cache));
	cache->index = oid;
	cache->file = file;
	cache->context = context;
	cache->used = ++clock_hand;
	caches[oldest] = cache;
	return cache;
}

/*
 * Forget all ways of an index: it turns out to have other pages.
 */
void
nbmf_cas_cache_forget(Relation index)
{
	for (int i = 0; i < REMEMBERED; i++)
	{
		Cache *cache = caches[i];

		if (cache != NULL && cache->index == RelationGetRelid(index))
		{
			caches[i] = NULL;
			MemoryContextDelete(cache->context);
		}
	}
}

static const CasRoot *
root_of(Relation index, Cache *cache, int table)
{
	if (cache->root[table] == NULL)
	{
		CasRoot *root = MemoryContextAlloc(cache->context, sizeof(CasRoot));

		nbmf_cas_read_root(index, table, root);
		cache->root[table] = root;
		cache->root_uses[table] = 0;
	}
	return cache->root[table];
}

/*
 * A copy of a root that is not too old, for planning.
 */
const CasRoot *
nbmf_cas_cached_root(Relation index, int table)
{
	Cache *cache = find_cache(index);

	/* a small table's counts change soon */
	if (cache->root[table] != NULL &&
		++cache->root_uses[table] > Min(ROOT_USES, (int) cache->root[table]->buckets))
	{
		nbmf_cas_read_root(index, table, cache->root[table]);
		cache->root_uses[table] = 0;
	}
	return root_of(index, cache, table);
}

static void
add_way(Cache *cache, WayGroup *group, int at, uint16 from, BlockNumber block)
{
	if (group->n >= group->room)
	{
		int room = Max(16, group->room * 2);

		if (group->way == NULL)
			group->way = MemoryContextAlloc(cache->context, room * sizeof(CasWay));
		else
			group->way = repalloc(group->way, room * sizeof(CasWay));
		group->room = room;
	}
	memmove(&group->way[at + 1], &group->way[at], (group->n - at) * sizeof(CasWay));
	group->way[at].from = from;
	group->way[at].block = block;
	group->way[at].buffer = InvalidBuffer;
	group->way[at].sorted = 0;
	group->n++;
}

/*
 * Read the ways of a group from the directory.
 */
static void
read_group(Relation index, Cache *cache, int table, int g)
{
	WayGroup *group = &cache->group[table][g];
	const CasRoot *root = root_of(index, cache, table);
	uint16 first = (uint16) (g * CAS_GROUP_VALUES);
	BlockNumber *slots = palloc(sizeof(BlockNumber) * CAS_GROUP_VALUES);
	int step = CAS_SLOT_VALUES;

	if (root->group[g] != InvalidBlockNumber)
	{
		Buffer buffer = nbmf_cas_read_typed(index, root->group[g], BUFFER_LOCK_SHARE,
											CAS_PAGE_DIRECTORY, table);

		memcpy(slots, CasPageSlots(BufferGetPage(buffer)), sizeof(BlockNumber) * CAS_GROUP_VALUES);
		UnlockReleaseBuffer(buffer);
		step = 1;
	}
	else
	{
		for (int i = 0; i < CAS_GROUP_VALUES; i += step)
			slots[i] = root->slot[(first + i) / CAS_SLOT_VALUES];
	}
	group->n = 0;
	for (int i = 0; i < CAS_GROUP_VALUES; i += step)
	{
		if (group->n == 0 || group->way[group->n - 1].block != slots[i])
			add_way(cache, group, group->n, (uint16) (first + i), slots[i]);
	}
	pfree(slots);
}

/* The last way of a group from the value or one before it on */
static int
find_way(const WayGroup *group, uint16 value)
{
	int low = 0;
	int high = group->n;

	while (high - low > 1)
	{
		int middle = (low + high) / 2;

		if (group->way[middle].from <= value)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static CasWay *
way_of(Relation index, Cache *cache, int table, uint16 value)
{
	WayGroup *group = &cache->group[table][value / CAS_GROUP_VALUES];

	if (group->n == 0)
		read_group(index, cache, table, value / CAS_GROUP_VALUES);
	return &group->way[find_way(group, value)];
}

/* The page of a way, fetched by the processor; NULL if it is not known where it is */
static const char *
prefetch_way(const CasWay *way)
{
	const char *page;

	/* local buffers are few and hot */
	if (way->buffer <= 0 || (way->block & CAS_OWN_PAGE))
		return NULL;
	page = (const char *) BufferGetBlock(way->buffer);
	__builtin_prefetch(GetBufferDescriptor(way->buffer - 1));
	__builtin_prefetch(page);
	return page;
}

/*
 * Have the processor fetch what is needed first of the bucket of a value, which is to
 * be read as a whole.  The rest is the caller's, and where it is is returned (no more
 * than a hint), if that is known.
 */
const char *
nbmf_cas_prefetch_bucket(Relation index, int table, uint16 value)
{
	const WayGroup *group = &find_cache(index)->group[table][value / CAS_GROUP_VALUES];
	const char *page;

	if (group->n == 0)
		return NULL;
	page = prefetch_way(&group->way[find_way(group, value)]);
	return page != NULL ? page + CAS_CONTENTS : NULL;
}

/* Ways that a walk takes one by one before the value is looked for */
#define STEPS 8

/* The last way of a group from the value or one before it on, from a way before it on */
static int
walk_on(const WayGroup *group, int at, uint16 value)
{
	for (int end = Min(at + STEPS, group->n); at + 1 < end; at++)
	{
		if (group->way[at + 1].from > value)
			return at;
	}
	return at + 1 < group->n ? find_way(group, value) : at;
}

/* Lines of the cache that may have a value's entries, around the first that is expected */
#define LINE         64
#define LINES_BEFORE 1
#define LINES_AFTER  3

/*
 * Have the processor fetch what is needed to look for a value in its bucket.  Values
 * are fetched in ascending order; a walk remembers where the last one was.
 */
void
nbmf_cas_prefetch_value(Relation index, int table, uint16 value, CasWalk *walk)
{
	int g = value / CAS_GROUP_VALUES;
	const WayGroup *group = &find_cache(index)->group[table][g];
	bool goes_on = walk->table == table && walk->group == g && walk->at < group->n;
	const CasWay *way;
	int at;
	uint16 hi;

	if (group->n == 0)
		return;
	at = walk_on(group, goes_on && group->way[walk->at].from <= value ? walk->at : 0, value);
	way = &group->way[at];
	if (!goes_on || at != walk->at)
	{
		walk->table = table;
		walk->group = g;
		walk->at = at;
		walk->page = prefetch_way(way);
	}
	if (walk->page == NULL)
		return;
	hi = at + 1 < group->n ? group->way[at + 1].from - 1 : value | (CAS_GROUP_VALUES - 1);
	at = nbmf_cas_guess(value, way->from, hi, way->sorted);
	for (int line = -LINES_BEFORE; line <= LINES_AFTER; line++)
		__builtin_prefetch(walk->page + CAS_CONTENTS + at * sizeof(uint64) + line * LINE);
}

/*
 * Remember a bucket that begins at a value, or before its group.
 */
static void
learn(Relation index, int table, uint16 from, BlockNumber block)
{
	Cache *cache = find_cache(index);
	WayGroup *group = &cache->group[table][from / CAS_GROUP_VALUES];
	int at;

	if (group->n == 0)
		return;
	at = find_way(group, from);
	if (group->way[at].from == from)
	{
		if (group->way[at].block & CAS_OWN_PAGE)
			return;
		group->way[at].block = block;
		group->way[at].buffer = InvalidBuffer;
	}
	else
		add_way(cache, group, at + 1, from, block);
}

/*
 * Read and lock a block that may be anything by now; InvalidBuffer if it is no
 * bucket (or directory page) of this table that begins at or to the left of a
 * place.
 */
static Buffer
read_remembered(Relation index, BlockNumber block, Buffer *recent, int lock, CasPageType type,
				int table, uint32 place)
{
	CasInfo *info = nbmf_cas_info(index);
	Buffer buffer;
	const CasHead *head;

	if (*recent != InvalidBuffer &&
		ReadRecentBuffer(nbmf_locator(index), MAIN_FORKNUM, block, *recent))
		buffer = *recent;
	else
	{
		if (block >= info->blocks)
		{
			info->blocks = RelationGetNumberOfBlocks(index);
			if (block >= info->blocks)
				return InvalidBuffer;
		}
		buffer = ReadBuffer(index, block);
		*recent = buffer;
	}
	nbmf_cas_lock_page(index, buffer, lock);
	if (!PageIsNew(BufferGetPage(buffer)))
	{
		nbmf_cas_check_page(index, buffer);
		head = CasPageHead(BufferGetPage(buffer));
		if (head->type == type && head->table == table && head->lo <= place)
			return buffer;
	}
	UnlockReleaseBuffer(buffer);
	return InvalidBuffer;
}

/*
 * Read and lock the bucket that a way leads to; InvalidBuffer if it leads to none
 * at or to the left of the place.
 */
static Buffer
follow(Relation index, CasWay *way, int table, uint32 place, int lock)
{
	BlockNumber block = way->block;
	Buffer recent = InvalidBuffer;
	Buffer buffer;

	if (block & CAS_OWN_PAGE)
	{
		buffer = read_remembered(index, block & ~CAS_OWN_PAGE, &way->buffer, BUFFER_LOCK_SHARE,
								 CAS_PAGE_DIRECTORY, table, place);
		if (buffer == InvalidBuffer)
			return InvalidBuffer;
		if (CasPageHead(BufferGetPage(buffer))->lo != nbmf_cas_first_place((int) (place >> 16)))
		{
			UnlockReleaseBuffer(buffer);
			return InvalidBuffer;
		}
		block = nbmf_cas_own_slot(BufferGetPage(buffer), place);
		UnlockReleaseBuffer(buffer);
		return read_remembered(index, block, &recent, lock, CAS_PAGE_BUCKET, table, place);
	}
	buffer = read_remembered(index, block, &way->buffer, lock, CAS_PAGE_BUCKET, table, place);
	if (buffer != InvalidBuffer)
		way->sorted = CasPageHead(BufferGetPage(buffer))->sorted;
	return buffer;
}

/* Buckets of one value that are walked before the directory is asked again */
#define WALK 8

/*
 * Read and lock the bucket that is responsible for a place.
 */
Buffer
nbmf_cas_lock_bucket(Relation index, int table, uint32 place, int lock)
{
	Cache *cache = find_cache(index);
	int value = (int) (place >> 16);
	Buffer buffer = follow(index, way_of(index, cache, table, (uint16) value), table, place, lock);
	const CasHead *head;
	int inside = 0;

	if (buffer == InvalidBuffer)
	{
		BlockNumber block;

		nbmf_cas_cache_forget(index);
		block = nbmf_cas_bucket_for(index, table, place);
		buffer = nbmf_cas_read_typed(index, block, lock, CAS_PAGE_BUCKET, table);
		if (CasPageHead(BufferGetPage(buffer))->lo > place)
			nbmf_cas_corrupted(index, block, "The bucket is not where the directory says.");
	}
	head = CasPageHead(BufferGetPage(buffer));
	while (place > head->hi)
	{
		uint32 lo = head->hi + 1;
		BlockNumber block = head->right;

		if (block == InvalidBlockNumber)
			nbmf_cas_corrupted(index, BufferGetBlockNumber(buffer),
							   "A bucket on its right is missing.");
		UnlockReleaseBuffer(buffer);
		/* by now the value may have a page of its own, which is not remembered */
		if ((lo & 0xffff) != 0 && ++inside == WALK)
		{
			BlockNumber known = nbmf_cas_bucket_for(index, table, place);

			cache = find_cache(index);
			cache->group[table][value / CAS_GROUP_VALUES].n = 0;
			if (cache->root[table] != NULL)
				nbmf_cas_read_root(index, table, cache->root[table]);
			buffer = nbmf_cas_read_typed(index, known, lock, CAS_PAGE_BUCKET, table);
			head = CasPageHead(BufferGetPage(buffer));
			if (head->lo > place)
				nbmf_cas_corrupted(index, known, "The bucket is not where the directory says.");
			continue;
		}
		buffer = nbmf_cas_read_typed(index, block, lock, CAS_PAGE_BUCKET, table);
		head = CasPageHead(BufferGetPage(buffer));
		/* this also ends a walk in a circle */
		if (head->lo != lo)
			nbmf_cas_corrupted(index, block, "The bucket does not begin where it should.");
		/* in the group of the value, which is where it is looked for */
		if ((head->lo & 0xffff) == 0 && (int) (head->hi >> 16) >= value)
			learn(index, table,
				  (uint16) Max((int) (head->lo >> 16), value - value % CAS_GROUP_VALUES), block);
	}
	return buffer;
}
