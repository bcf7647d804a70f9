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
 * The bucket at or to the left of the one for a value.
 */
BlockNumber
nbmf_cas_bucket_for(Relation index, int table, uint16 value)
{
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
	return block;
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
	Page page;
	BlockNumber *slots;

	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, root_buffer, false));
	page = nbmf_cas_change_page(&change, buffer, true);
	nbmf_cas_page_init(page, CAS_PAGE_DIRECTORY, table);
	CasPageTail(page)->lo = (uint16) (group * CAS_GROUP_VALUES);
	CasPageTail(page)->hi = (uint16) (group * CAS_GROUP_VALUES + CAS_GROUP_VALUES - 1);
	slots = CasPageSlots(page);
	for (int i = 0; i < CAS_GROUP_VALUES; i++)
		slots[i] = root->slot[(group * CAS_GROUP_VALUES + i) / CAS_SLOT_VALUES];
	((PageHeader) page)->pd_lower += sizeof(BlockNumber) * CAS_SLOTS;
	root->group[group] = BufferGetBlockNumber(buffer);
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
}

/*
 * Enter a new bucket for the values lo to hi, which the caller has locked.
 */
void
nbmf_cas_directory_add(Relation index, int table, uint16 lo, uint16 hi, BlockNumber block,
					   bool building)
{
	int first_slot = (lo + CAS_SLOT_VALUES - 1) / CAS_SLOT_VALUES;
	int last_slot = hi / CAS_SLOT_VALUES;
	BlockNumber group[CAS_GROUPS];
	Buffer root_buffer;
	CasChange change;
	CasRoot *root;

	root_buffer = nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_EXCLUSIVE,
									  CAS_PAGE_ROOT, table);
	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, root_buffer, false));
	root->buckets++;
	for (int slot = first_slot; slot <= last_slot; slot++)
	{
		if (root->group[slot / (CAS_SLOTS / CAS_GROUPS)] == InvalidBlockNumber)
			root->slot[slot] = block;
	}
	nbmf_cas_change_finish(&change);

	root = CasPageRoot(BufferGetPage(root_buffer));
	/* the root's slots are too coarse for buckets this narrow */
	if (hi - lo < CAS_SLOT_VALUES && root->group[lo / CAS_GROUP_VALUES] == InvalidBlockNumber)
		make_directory_page(index, table, lo / CAS_GROUP_VALUES, root_buffer, building);
	memcpy(group, root->group, sizeof(group));
	UnlockReleaseBuffer(root_buffer);

	for (int g = lo / CAS_GROUP_VALUES; g <= hi / CAS_GROUP_VALUES; g++)
	{
		int first = Max(lo, g * CAS_GROUP_VALUES);
		int last = Min(hi, g * CAS_GROUP_VALUES + CAS_GROUP_VALUES - 1);
		Buffer buffer;
		BlockNumber *slots;

		if (group[g] == InvalidBlockNumber)
			continue;
		/* locking a page twice would wait for ever */
		if (group[g] == block)
			nbmf_cas_corrupted(index, block, "A bucket is in the place of a directory page.");
		buffer =
			nbmf_cas_read_typed(index, group[g], BUFFER_LOCK_EXCLUSIVE, CAS_PAGE_DIRECTORY, table);
		nbmf_cas_change_begin(&change, index, building);
		slots = CasPageSlots(nbmf_cas_change_page(&change, buffer, false));
		for (int value = first; value <= last; value++)
			slots[value % CAS_GROUP_VALUES] = block;
		nbmf_cas_change_finish(&change);
		UnlockReleaseBuffer(buffer);
	}
}

/*
 * Note how long the chain of a bucket is, if that is long.  The root knows the
 * longest ones; the note is for planning, and may be out of date.
 */
void
nbmf_cas_directory_heavy(Relation index, int table, uint16 value, uint32 pages, bool building)
{
	Buffer buffer = nbmf_cas_read_typed(index, CAS_ROOT_BLOCK(table), BUFFER_LOCK_EXCLUSIVE,
										CAS_PAGE_ROOT, table);
	CasChange change;
	CasRoot *root;
	uint32 at = 0;
	uint32 shortest = 0;

	nbmf_cas_change_begin(&change, index, building);
	root = CasPageRoot(nbmf_cas_change_page(&change, buffer, false));
	for (; at < root->heavies && root->heavy[at].value != value; at++)
	{
		if (root->heavy[at].pages < root->heavy[shortest].pages)
			shortest = at;
	}
	if (pages < CAS_HEAVY_PAGES)
	{
		if (at < root->heavies)
		{
			root->heavy[at] = root->heavy[--root->heavies];
			memset(&root->heavy[root->heavies], 0, sizeof(CasHeavy));
		}
	}
	else
	{
		if (at == CAS_HEAVY)
			at = root->heavy[shortest].pages < pages ? shortest : CAS_HEAVY;
		else if (at == root->heavies)
			root->heavies++;
		if (at < CAS_HEAVY)
		{
			root->heavy[at].value = value;
			root->heavy[at].pages = pages;
		}
	}
	nbmf_cas_change_finish(&change);
	UnlockReleaseBuffer(buffer);
}
