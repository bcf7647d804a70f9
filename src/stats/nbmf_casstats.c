/*
 * nbmf_casstats.c
 *		Counters of lookups in nbmf_cas indexes, behind pg_stat_nbmf_cas.
 *
 * As in nbmf_stats.c: one slot for each index, in shared memory with nbmf in
 * shared_preload_libraries, otherwise, or when all slots are taken, in the
 * backend.  A backend gathers what it counts of one index, and adds it when it
 * turns to another index or its transaction ends.
 *
 * A slot is freed when its index is gone,
 * which the view finds out; a backend that still knows the slot looks at its
 * owner before it adds.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "stats/stats.h"
#include "stats/stats_slots.h"

#define CACHED 8

/* Numbers of a slot: counters, then the histogram */
#define SLOT_NUMBERS (NBMF_CAS_STATS_COUNTERS + NBMF_HISTOGRAM_BUCKETS)

static void flush_pending(void);

static NbmfSlotArea area = {.name = "nbmf index statistics",
							.tranche = "nbmf_cas_stats",
							.file = "pg_stat/nbmf_cas.stat",
							.magic = 0x6e626d13,
							.slots = 1024,
							.numbers = SLOT_NUMBERS,
							.flush = flush_pending};

/* Slots of this backend alone */
typedef struct LocalSlot
{
	struct LocalSlot *next;
	NbmfSlot slot; /* last: its numbers follow */
} LocalSlot;

static LocalSlot *local_slots = NULL;

/* Slots that this backend has used lately */
static NbmfSlot *cached[CACHED];
static int next_cached = 0;

/* What has been counted and not yet added */
static Oid pending_index = InvalidOid;
static uint64 pending[NBMF_CAS_STATS_COUNTERS];

PG_FUNCTION_INFO_V1(nbmf_cas_stat);
PG_FUNCTION_INFO_V1(nbmf_cas_stat_reset);

/*
 * The slot of an index.  Callable at transaction end: reads no catalog.
 */
static NbmfSlot *
get_slot(Oid index)
{
	NbmfSlot *slot = NULL;

	for (int i = 0; i < CACHED; i++)
	{
		if (cached[i] != NULL && cached[i]->object == index && cached[i]->dbid == MyDatabaseId)
			return cached[i];
	}
	if (nbmf_slots_are_shared(&area))
		slot = nbmf_slot_take(&area, index);
	if (slot == NULL)
	{
		LocalSlot *local = local_slots;

		while (local != NULL && local->slot.object != index)
			local = local->next;
		if (local == NULL)
		{
			local = MemoryContextAllocExtended(
				TopMemoryContext, offsetof(LocalSlot, slot) + NBMF_SLOT_SIZE(SLOT_NUMBERS),
				MCXT_ALLOC_NO_OOM);
			/* statistics are worth no error */
			if (local == NULL)
				return NULL;
			nbmf_slot_init(&local->slot, SLOT_NUMBERS);
			nbmf_slot_clear(&local->slot, SLOT_NUMBERS);
			local->slot.dbid = MyDatabaseId;
			local->slot.object = index;
			local->next = local_slots;
			local_slots = local;
		}
		slot = &local->slot;
	}
	cached[next_cached] = slot;
	next_cached = (next_cached + 1) % CACHED;
	return slot;
}

static void
flush_pending(void)
{
	NbmfSlot *slot;

	if (!OidIsValid(pending_index))
		return;
	slot = get_slot(pending_index);
	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
	{
		if (pending[i] > 0 && slot != NULL)
			pg_atomic_fetch_add_u64(&slot->number[i], (int64) pending[i]);
		pending[i] = 0;
	}
	pending_index = InvalidOid;
}

/*
 * Count one thing of an index.
 */
void
nbmf_cas_stats_count(Oid index, NbmfCasCounter counter, uint64 n)
{
	if (pending_index != index)
	{
		flush_pending();
		pending_index = index;
	}
	pending[counter] += n;
}

/*
 * Count a lookup: how it ended, and how long it took (0: not known).
 */
void
nbmf_cas_stats_lookup(Oid index, NbmfCasCounter outcome, uint64 ns)
{
	nbmf_cas_stats_count(index, outcome, 1);
	if (ns > 0)
	{
		NbmfSlot *slot = get_slot(index);

		pending[NBMF_CAS_TIMED]++;
		pending[NBMF_CAS_NANOSECONDS] += ns;
		if (slot != NULL)
			pg_atomic_fetch_add_u64(
				&slot->number[NBMF_CAS_STATS_COUNTERS + nbmf_histogram_bucket(ns)], 1);
	}
}

/*
 * The rows behind the view
 */

static void
put_slot(NbmfSlot *slot, bool is_shared, ReturnSetInfo *rsinfo)
{
	uint64 counter[NBMF_CAS_STATS_COUNTERS];
	uint64 histogram[NBMF_HISTOGRAM_BUCKETS];
	Datum values[10];
	bool nulls[10] = {0};
	double p95;

	for (int i = 0; i < NBMF_CAS_STATS_COUNTERS; i++)
		counter[i] = pg_atomic_read_u64(&slot->number[i]);
	values[0] = ObjectIdGetDatum(slot->object);
	values[1] = Int64GetDatum((int64) counter[NBMF_CAS_EXACT]);
	values[2] = Int64GetDatum((int64) counter[NBMF_CAS_NEAR]);
	values[3] = Int64GetDatum((int64) counter[NBMF_CAS_UNVERIFIED]);
	values[4] = Int64GetDatum((int64) counter[NBMF_CAS_MISS]);
	values[5] = Int64GetDatum((int64) counter[NBMF_CAS_DIVERGENCE]);
	nulls[6] = counter[NBMF_CAS_TIMED] == 0;
	values[6] = nulls[6] ? (Datum) 0
						 : Float8GetDatum((double) counter[NBMF_CAS_NANOSECONDS] /
										  (double) counter[NBMF_CAS_TIMED] / 1e6);
	for (int i = 0; i < NBMF_HISTOGRAM_BUCKETS; i++)
		histogram[i] = pg_atomic_read_u64(&slot->number[NBMF_CAS_STATS_COUNTERS + i]);
	p95 = nbmf_histogram_quantile_ms(histogram, 0.95);
	nulls[7] = p95 < 0;
	values[7] = nulls[7] ? (Datum) 0 : Float8GetDatum(p95);
	values[8] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&slot->reset_at));
	values[9] = BoolGetDatum(is_shared);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
nbmf_cas_stat(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	flush_pending();
	for (int i = 0; nbmf_slots_are_shared(&area) && i < area.slots; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(&area, i);
		Oid dbid = slot->dbid;
		Oid index = slot->object;
		bool gone;

		if (!OidIsValid(dbid))
			continue;
		if (dbid == MyDatabaseId)
			gone = !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(index));
		else
			gone = !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(dbid));
		if (gone)
			nbmf_slot_free(&area, slot, dbid, index);
		else if (dbid == MyDatabaseId)
			put_slot(slot, true, rsinfo);
	}
	for (LocalSlot *local = local_slots; local != NULL; local = local->next)
		put_slot(&local->slot, false, rsinfo);
	return (Datum) 0;
}

/*
 * Set the counters of one index, or of all in this database, to zero.
 */
Datum
nbmf_cas_stat_reset(PG_FUNCTION_ARGS)
{
	Oid index = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);

	memset(pending, 0, sizeof(pending));
	pending_index = InvalidOid;
	for (int i = 0; nbmf_slots_are_shared(&area) && i < area.slots; i++)
	{
		NbmfSlot *slot = nbmf_slot_at(&area, i);

		if (slot->dbid == MyDatabaseId && (!OidIsValid(index) || slot->object == index))
			nbmf_slot_clear(slot, SLOT_NUMBERS);
	}
	for (LocalSlot *local = local_slots; local != NULL; local = local->next)
	{
		if (!OidIsValid(index) || local->slot.object == index)
			nbmf_slot_clear(&local->slot, SLOT_NUMBERS);
	}
	PG_RETURN_VOID();
}

void
nbmf_cas_stats_init(void)
{
	nbmf_slots_register(&area);
}
