/*
 * nbmf_slots.c
 *		Areas of slots in shared memory: nbmf_stats.c has one for databases,
 *		nbmf_casstats.c one for indexes.
 *
 * An area exists with nbmf in shared_preload_libraries only.  Its lock protects
 * the slots' owners (dbid, object); numbers are added to without it.  A file
 * keeps the numbers over a clean shutdown.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "stats/stats_slots.h"

#define AREAS_MAX 2

/* A slot on disk: who owns it, since when it counts, its numbers */
#define RECORD_LEAD 2

static NbmfSlotArea *areas[AREAS_MAX];
static int area_count = 0;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

void
nbmf_slot_clear(NbmfSlot *slot, int numbers)
{
	for (int i = 0; i < numbers; i++)
		pg_atomic_write_u64(&slot->number[i], 0);
	pg_atomic_write_u64(&slot->reset_at, (uint64) GetCurrentTimestamp());
}

void
nbmf_slot_init(NbmfSlot *slot, int numbers)
{
	slot->dbid = slot->object = InvalidOid;
	pg_atomic_init_u64(&slot->reset_at, 0);
	for (int i = 0; i < numbers; i++)
		pg_atomic_init_u64(&slot->number[i], 0);
}

/*
 * Find or take the slot of an object of this database; NULL if there is none to
 * be had.
 */
NbmfSlot *
nbmf_slot_take(NbmfSlotArea *area, Oid object)
{
	NbmfSlot *mine = NULL;
	NbmfSlot *unused = NULL;

	LWLockAcquire(area->lock, LW_EXCLUSIVE);
	for (int i = 0; i < area->slots && mine == NULL; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(area, i);

		if (slot->dbid == MyDatabaseId && slot->object == object)
			mine = slot;
		else if (slot->dbid == InvalidOid && unused == NULL)
			unused = slot;
	}
	if (mine == NULL && unused != NULL)
	{
		mine = unused;
		nbmf_slot_clear(mine, area->numbers);
		mine->object = object;
		mine->dbid = MyDatabaseId;
	}
	LWLockRelease(area->lock);
	return mine;
}

/*
 * Free a slot, if it still belongs to what is gone.
 */
void
nbmf_slot_free(NbmfSlotArea *area, NbmfSlot *slot, Oid dbid, Oid object)
{
	LWLockAcquire(area->lock, LW_EXCLUSIVE);
	if (slot->dbid == dbid && slot->object == object)
		slot->dbid = slot->object = InvalidOid;
	LWLockRelease(area->lock);
}

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
			for (int i = 0; i < area_count; i++)
				areas[i]->flush();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

/*
 * Keeping the numbers over a shutdown
 */

static bool
write_slots(const NbmfSlotArea *area, FILE *file)
{
	uint32 records = 0;

	for (int i = 0; i < area->slots; i++)
		records += OidIsValid(nbmf_slot_at(area, i)->dbid);
	if (fwrite(&area->magic, sizeof(area->magic), 1, file) != 1 ||
		fwrite(&records, sizeof(records), 1, file) != 1)
		return false;
	for (int i = 0; i < area->slots; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(area, i);
		uint64 record[RECORD_LEAD + NBMF_SLOT_NUMBERS_MAX];
		size_t size = sizeof(uint64) * (RECORD_LEAD + area->numbers);
		uint32 hash;

		if (!OidIsValid(slot->dbid))
			continue;
		record[0] = (uint64) slot->dbid << 32 | slot->object;
		record[1] = pg_atomic_read_u64(&slot->reset_at);
		for (int n = 0; n < area->numbers; n++)
			record[RECORD_LEAD + n] = pg_atomic_read_u64(&slot->number[n]);
		hash = hash_bytes((unsigned char *) record, (int) size);
		if (fwrite(record, size, 1, file) != 1 || fwrite(&hash, sizeof(hash), 1, file) != 1)
			return false;
	}
	return true;
}

static void
save_area(const NbmfSlotArea *area)
{
	char temporary[MAXPGPATH];
	FILE *file;
	bool ok;

	snprintf(temporary, sizeof(temporary), "%s.tmp", area->file);
	file = AllocateFile(temporary, PG_BINARY_W);
	ok = file != NULL && write_slots(area, file);
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (ok)
		(void) durable_rename(temporary, area->file, LOG);
	else
	{
		ereport(LOG,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", temporary)));
		unlink(temporary);
	}
}

static void
save_areas(int code, Datum arg)
{
	/* after a crash the numbers may be anything */
	if (code != 0)
		return;
	for (int i = 0; i < area_count; i++)
		if (nbmf_slots_are_shared(areas[i]))
			save_area(areas[i]);
}

static bool
read_slots(const NbmfSlotArea *area, FILE *file)
{
	uint32 magic;
	uint32 records;

	if (fread(&magic, sizeof(magic), 1, file) != 1 || magic != area->magic ||
		fread(&records, sizeof(records), 1, file) != 1 || records > (uint32) area->slots)
		return false;
	for (int i = 0; i < (int) records; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(area, i);
		uint64 record[RECORD_LEAD + NBMF_SLOT_NUMBERS_MAX];
		size_t size = sizeof(uint64) * (RECORD_LEAD + area->numbers);
		uint32 hash;

		if (fread(record, size, 1, file) != 1 || fread(&hash, sizeof(hash), 1, file) != 1 ||
			hash != hash_bytes((unsigned char *) record, (int) size))
			return false;
		slot->dbid = (Oid) (record[0] >> 32);
		slot->object = (Oid) record[0];
		pg_atomic_write_u64(&slot->reset_at, record[1]);
		for (int n = 0; n < area->numbers; n++)
			pg_atomic_write_u64(&slot->number[n], record[RECORD_LEAD + n]);
	}
	return true;
}

/*
 * Read what save_area wrote.  Statistics are worth no refusal to start: a file
 * that is not whole is reported and what follows in it is left out.
 */
static void
load_area(const NbmfSlotArea *area)
{
	FILE *file = AllocateFile(area->file, PG_BINARY_R);

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(),
						  errmsg("could not read file \"%s\": %m", area->file)));
		return;
	}
	if (!read_slots(area, file))
		ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED),
					  errmsg("ignoring invalid data in file \"%s\"", area->file)));
	FreeFile(file);

	/* a crash must not bring old numbers back */
	unlink(area->file);
}

/*
 * Start-up
 */

static Size
area_size(const NbmfSlotArea *area)
{
	return NBMF_SLOT_SIZE(area->numbers) * area->slots;
}

static void
slots_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	for (int i = 0; i < area_count; i++)
	{
		RequestAddinShmemSpace(MAXALIGN(area_size(areas[i])));
		RequestNamedLWLockTranche(areas[i]->tranche, 1);
	}
}

static void
slots_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < area_count; i++)
	{
		NbmfSlotArea *area = areas[i];
		bool found;

		/* forget what a server that crashed and restarted had */
		area->memory = NULL;
		area->memory = ShmemInitStruct(area->name, area_size(area), &found);
		area->lock = &GetNamedLWLockTranche(area->tranche)->lock;
		if (!found)
		{
			for (int s = 0; s < area->slots; s++)
				nbmf_slot_init(nbmf_slot_at(area, s), area->numbers);
			load_area(area);
		}
	}
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(save_areas, (Datum) 0);
}

/*
 * Have an area, in shared memory if the library is being preloaded, and its
 * counts flushed at the end of each transaction.
 */
void
nbmf_slots_register(NbmfSlotArea *area)
{
	Assert(area_count < AREAS_MAX && area->numbers <= NBMF_SLOT_NUMBERS_MAX);
	areas[area_count++] = area;
	if (area_count > 1)
		return;
	RegisterXactCallback(xact_callback, NULL);
	if (process_shared_preload_libraries_in_progress)
	{
		prev_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = slots_shmem_request;
		prev_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = slots_shmem_startup;
	}
}
