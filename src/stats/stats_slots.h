/*
 * stats_slots.h
 *		Inside the room stats: slots of numbers in shared memory, one for each
 *		thing that is counted, kept over a clean shutdown.
 */
#ifndef NBMF_STATS_SLOTS_H
#define NBMF_STATS_SLOTS_H

#include "port/atomics.h"
#include "storage/lwlock.h"

/* Most numbers of a slot */
#define NBMF_SLOT_NUMBERS_MAX 1024

typedef struct NbmfSlot
{
	Oid dbid;                  /* InvalidOid: free */
	Oid object;                /* what is counted, in that database; 0: all of it */
	pg_atomic_uint64 reset_at; /* TimestampTz */
	pg_atomic_uint64 number[FLEXIBLE_ARRAY_MEMBER];
} NbmfSlot;

#define NBMF_SLOT_SIZE(numbers) (offsetof(NbmfSlot, number) + sizeof(pg_atomic_uint64) * (numbers))

typedef struct NbmfSlotArea
{
	const char *name;    /* of the shared memory */
	const char *tranche; /* of its lock */
	const char *file;
	uint32 magic; /* of the file; changes when the layout does */
	int slots;
	int numbers;         /* of a slot */
	void (*flush)(void); /* add what has been counted: at the end of a transaction */

	/* set at start-up; NULL where the library is not preloaded */
	LWLock *lock;
	char *memory;
} NbmfSlotArea;

static inline bool
nbmf_slots_are_shared(const NbmfSlotArea *area)
{
	return area->memory != NULL;
}

static inline NbmfSlot *
nbmf_slot_at(const NbmfSlotArea *area, int i)
{
	return (NbmfSlot *) (area->memory + NBMF_SLOT_SIZE(area->numbers) * i);
}

extern void nbmf_slots_register(NbmfSlotArea *area);
extern void nbmf_slot_init(NbmfSlot *slot, int numbers);
extern void nbmf_slot_clear(NbmfSlot *slot, int numbers);
extern NbmfSlot *nbmf_slot_take(NbmfSlotArea *area, Oid object);
extern void nbmf_slot_free(NbmfSlotArea *area, NbmfSlot *slot, Oid dbid, Oid object);

#endif /* NBMF_STATS_SLOTS_H */
