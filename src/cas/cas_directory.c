/*
 * cas_directory.c
 *		From 16 bits to a bucket: the root pages and the directory pages.
 *
 * A directory may be behind: a slot says a bucket at or to the left of the one
 * that is looked for, and links to the right lead there.  That is so for ever
 * once it is so, because buckets keep their start and are never freed.
 *
 * Slots are changed while the new bucket is locked, so that a later split of it
 * cannot be overtaken.
 */
#include "postgres.h"

#include "cas/cas.h"

void
nbmf_cas_read_root(Relation index, int table, CasRoot *root)
{
	Buffer buffer =
		nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_SHARE, CAS_PAGE_ROOT, table);

	memcpy(root, CasPageRoot(BufferGetPage(buffer)), sizeof(CasRoot));
	UnlockReleaseBuffer(buffer);
}

/*
 * The bucket at or to the left of the one for a place.
 */
BlockNumber
nbmf_cas_bucket_for(Relation index, int table, uint32 place)
{
	int value = (int) (place >> 16);
	Buffer buffer =
		nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_SHARE, CAS_PAGE_ROOT, table);
	const CasRoot *root = CasPageRoot(BufferGetPage(buffer));
	BlockNumber directory = root->group[value / CAS_GROUP_VALUES];
	BlockNumber block = root->slot[value / CAS_SLOT_VALUES];

	UnlockReleaseBuffer(buffer);
	if (directory == InvalidBlockNumber)
		return block;
	buffer = nbmf_cas_read_typed(index, directory, BUFFER_LOCK_SHARE, CAS_PAGE_DIRECTORY, table);
	block = CasPageSlots(BufferGetPage(buffer))[value % CAS_GROUP_VALUES];
	UnlockReleaseBuffer(buffer);
	if (block & CAS_OWN_PAGE)
	{
		block &= ~CAS_OWN_PAGE;
		buffer = nbmf_cas_read_typed(index, block, BUFFER_LOCK_SHARE, CAS_PAGE_DIRECTORY, table);
		if (CasPageHead(BufferGetPage(buffer))->lo != nbmf_cas_first_place(value))
			nbmf_cas_corrupted(index, block, "It is the page of another value.");
		block = nbmf_cas_own_slot(BufferGetPage(buffer), place);
		UnlockReleaseBuffer(buffer);
	}
	return block;
}

/* A new directory page about some places, all of them in one bucket */
static BlockNumber *
init_directory_page(Page page, int table, uint32 lo, uint32 hi, BlockNumber block)
{
	BlockNumber *slots = CasPageSlots(page);

	nbmf_cas_page_init(page, CAS_PAGE_DIRECTORY, table);
	CasPageHead(page)->lo = lo;
	CasPageHead(page)->hi = hi;
	for (int i = 0; i < CAS_SLOTS; i++)
		slots[i] = block;
	((PageHeader) page)->pd_lower += sizeof(BlockNumber) * CAS_SLOTS;
	return slots;
}

/*
 * Give a group a directory page, for which the root's slots are too coarse.
 * The root is locked, and a page that the caller starts a change with.
 */
static void
make_directory_page(Relation index, int table, int group, Buffer root_buffer, bool building)
{
	Buffer buffer = nbmf_cas_new_buffer(index);
	CasChange change;
	CasRoot *root;
	BlockNumber *slots;

	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, root_buffer, false));
	slots = init_directory_page(
		nbmf_cas_change_page(&change, buffer, true), table,
		nbmf_cas_first_place(group * CAS_GROUP_VALUES),
		nbmf_cas_last_place(group * CAS_GROUP_VALUES + CAS_GROUP_VALUES - 1), InvalidBlockNumber);
	for (int i = 0; i < CAS_GROUP_VALUES; i++)
		slots[i] = root->slot[(group * CAS_GROUP_VALUES + i) / CAS_SLOT_VALUES];
	root->group[group] = BufferGetBlockNumber(buffer);
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
}

/*
 * The directory page of a group, exclusively locked.
 */
static Buffer
lock_directory_page(Relation index, int table, BlockNumber block, BlockNumber bucket)
{
	/* locking a page twice would wait for ever */
	if (block == bucket)
		nbmf_cas_corrupted(index, block, "A bucket is in the place of a directory page.");
	return nbmf_cas_read_typed(index, block, BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_DIRECTORY, table);
}

/*
 * Enter a new bucket, which the caller has locked, for places inside a value
 * into the value's own page; that is made if it is not there.  The directory
 * page of the group is locked, and is released.
 */
static void
add_inside(Relation index, int table, uint32 lo, uint32 hi, BlockNumber block, Buffer group_buffer,
		   bool building)
{
	int value = (int) (lo >> 16);
	BlockNumber slot = CasPageSlots(BufferGetPage(group_buffer))[value % CAS_GROUP_VALUES];
	int first = (int) ((lo & 0xffff) + CAS_SLOT_PIECES - 1) / CAS_SLOT_PIECES;
	int last = (int) (hi & 0xffff) / CAS_SLOT_PIECES;
	BlockNumber *slots;
	CasChange change;
	Buffer buffer;

	if (slot & CAS_OWN_PAGE)
	{
		UnlockReleaseBuffer(group_buffer);
		group_buffer = InvalidBuffer;
		buffer = lock_directory_page(index, table, slot & ~CAS_OWN_PAGE, block);
		if (CasPageHead(BufferGetPage(buffer))->lo != nbmf_cas_first_place(value))
			nbmf_cas_corrupted(index, slot & ~CAS_OWN_PAGE, "It is the page of another value.");
		nbmf_cas_change_begin(&change, index, building);
		slots = CasPageSlots(nbmf_cas_change_page(&change, buffer, false));
	}
	else
	{
		buffer = nbmf_cas_new_buffer(index);
		/* in an index of 16 TB the mark has no room, and buckets are walked */
		if (BufferGetBlockNumber(buffer) & CAS_OWN_PAGE)
		{
			UnlockReleaseBuffer(buffer);
			UnlockReleaseBuffer(group_buffer);
			return;
		}
		nbmf_cas_change_begin(&change, index, building);
		slots = CasPageSlots(nbmf_cas_change_page(&change, group_buffer, false));
		slots[value % CAS_GROUP_VALUES] = BufferGetBlockNumber(buffer) | CAS_OWN_PAGE;
		slots = init_directory_page(nbmf_cas_change_page(&change, buffer, true), table,
									nbmf_cas_first_place(value), nbmf_cas_last_place(value), slot);
	}
	for (int i = first; i <= last; i++)
		slots[i] = block;
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
	if (group_buffer != InvalidBuffer)
		UnlockReleaseBuffer(group_buffer);
}

/*
 * Enter a new bucket for the places lo to hi, which the caller has locked.
 */
void
nbmf_cas_directory_add(Relation index, int table, uint32 lo, uint32 hi, BlockNumber block,
					   int depth, bool building)
{
	bool inside = (lo & 0xffff) != 0;
	int lo_value = (int) (lo >> 16);
	int hi_value = (int) (hi >> 16);
	int first_slot = (lo_value + CAS_SLOT_VALUES - 1) / CAS_SLOT_VALUES;
	int last_slot = hi_value / CAS_SLOT_VALUES;
	BlockNumber group[CAS_GROUPS];
	Buffer root_buffer;
	CasChange change;
	CasRoot *root;

	root_buffer = nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_EXCLUSIVE,
									  CAS_PAGE_ROOT, table);
	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, root_buffer, false));
	root->buckets++;
	for (int slot = first_slot; slot <= last_slot && !inside; slot++)
	{
		if (root->group[slot / (CAS_SLOTS / CAS_GROUPS)] == InvalidBlockNumber)
			root->slot[slot] = block;
	}
	nbmf_cas_change_finish(&change);

	root = CasPageRoot(BufferGetPage(root_buffer));
	/* a few buckets of a slot are walked, and then remembered; more are too many */
	if (hi_value - lo_value < CAS_NARROW &&
		root->group[lo_value / CAS_GROUP_VALUES] == InvalidBlockNumber)
		make_directory_page(index, table, lo_value / CAS_GROUP_VALUES, root_buffer, building);
	memcpy(group, root->group, sizeof(group));
	UnlockReleaseBuffer(root_buffer);

	if (inside)
	{
		/* a few buckets of one value are walked */
		if (depth >= CAS_OWN_DEPTH)
			add_inside(index, table, lo, hi, block,
					   lock_directory_page(index, table, group[lo_value / CAS_GROUP_VALUES], block),
					   building);
		return;
	}
	for (int g = lo_value / CAS_GROUP_VALUES; g <= hi_value / CAS_GROUP_VALUES; g++)
	{
		int first = Max(lo_value, g * CAS_GROUP_VALUES);
		int last = Min(hi_value, g * CAS_GROUP_VALUES + CAS_GROUP_VALUES - 1);
		Buffer buffer;
		BlockNumber *slots;

		if (group[g] == InvalidBlockNumber)
			continue;
		buffer = lock_directory_page(index, table, group[g], block);
		nbmf_cas_change_begin(&change, index, building);
		slots = CasPageSlots(nbmf_cas_change_page(&change, buffer, false));
		for (int value = first; value <= last; value++)
			slots[value % CAS_GROUP_VALUES] = block;
		nbmf_cas_change_finish(&change);
		UnlockReleaseBuffer(buffer);
	}
}

/*
 * Note how many pages a value has, if these are many; grows: at least.  The
 * root knows the largest ones; the note is for planning, and may be out of date.
 */
void
nbmf_cas_directory_heavy(Relation index, int table, uint16 value, uint32 pages, bool grows,
						 bool building)
{
	Buffer buffer = nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_EXCLUSIVE,
										CAS_PAGE_ROOT, table);
	CasChange change;
	const CasRoot *now = CasPageRoot(BufferGetPage(buffer));
	CasRoot *root;
	uint32 at = 0;
	uint32 shortest = 0;

	for (; at < now->heavies && now->heavy[at].value != value; at++)
	{
		if (now->heavy[at].pages < now->heavy[shortest].pages)
			shortest = at;
	}
	if (at == CAS_HEAVY && now->heavy[shortest].pages < pages)
		at = shortest;
	/* is there something to change? */
	if (at == CAS_HEAVY || (at == now->heavies && pages < CAS_HEAVY_PAGES) ||
		(at < now->heavies && now->heavy[at].value == value &&
		 (grows ? now->heavy[at].pages >= pages : now->heavy[at].pages == pages)))
	{
		UnlockReleaseBuffer(buffer);
		return;
	}
	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, buffer, false));
	if (pages < CAS_HEAVY_PAGES)
	{
		root->heavy[at] = root->heavy[--root->heavies];
		memset(&root->heavy[root->heavies], 0, sizeof(CasHeavy));
	}
	else
	{
		if (at == root->heavies)
			root->heavies++;
		root->heavy[at].value = value;
		root->heavy[at].pages = pages;
	}
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
}
