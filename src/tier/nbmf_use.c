/*
 * nbmf_use.c
 *		The table nbmf.dictionary_use: what dictionaries do for new values, and
 *		whether training is due.
 *
 * nbmf.maintain counts the values that it sees for the first time, as the row
 * trigger has encoded them: content and stored bytes by dictionary, those
 * without one under 0.  Their ratio is what the dictionary is worth now, to be
 * held against what it was worth when it was trained; both are of level L1 and
 * of values that it was not trained on.  A dictionary that has lost more than
 * nbmf.drift_limit of it is due to be replaced, and training is due as well
 * where much has come in that no dictionary is for: before the first training,
 * or from classes and tenants that are new.
 *
 * Training writes down what it left, so that what does not pay is not tried
 * again by every maintenance.
 */
#include "postgres.h"

#include <float.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "tier/tier.h"

PG_FUNCTION_INFO_V1(nbmf_training_due);

/* Columns of nbmf.dictionary_use; the install script and this must agree */
enum
{
	Anum_use_attachment = 1,
	Anum_use_object,
	Anum_use_values,
	Anum_use_raw_bytes,
	Anum_use_stored_bytes,
	Anum_use_kept_ratio,
	Anum_use_trained_before,
	Anum_use_measured_at,
	Natts_use = Anum_use_measured_at
};

/* Fewer values, or less content, say nothing about a dictionary */
#define USE_MIN_VALUES 500
#define USE_MIN_BYTES  (64.0 * 1024)

/*
 * Content without a dictionary that makes training due: this much, and this
 * part of the table
 */
#define NEW_MIN_BYTES (32.0 * 1024)
#define NEW_MIN_PART  0.2

bool nbmf_auto_train = true;
static double nbmf_drift_limit = 0.15;

static Relation
open_use(LOCKMODE lock)
{
	return nbmf_catalog_open("dictionary_use", lock);
}

static SysScanDesc
scan_use(Relation rel, int32 attachment, uint32 object, int keys)
{
	ScanKeyData key[2];

	ScanKeyInit(&key[0], Anum_use_attachment, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(attachment));
	ScanKeyInit(&key[1], Anum_use_object, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum((int32) object));
	return systable_beginscan(rel, nbmf_primary_key_index(rel), true, NULL, keys, key);
}

static void
use_from_tuple(HeapTuple tuple, TupleDesc tupdesc, NbmfUse *use)
{
	bool isnull;

	use->object = DatumGetUInt32(heap_getattr(tuple, Anum_use_object, tupdesc, &isnull));
	use->values = DatumGetInt64(heap_getattr(tuple, Anum_use_values, tupdesc, &isnull));
	use->raw_bytes = DatumGetInt64(heap_getattr(tuple, Anum_use_raw_bytes, tupdesc, &isnull));
	use->stored_bytes = DatumGetInt64(heap_getattr(tuple, Anum_use_stored_bytes, tupdesc, &isnull));
	use->kept_ratio = DatumGetFloat8(heap_getattr(tuple, Anum_use_kept_ratio, tupdesc, &isnull));
	use->trained_before =
		(uint64) DatumGetInt64(heap_getattr(tuple, Anum_use_trained_before, tupdesc, &isnull));
}

/*
 * What has been counted for one dictionary; false if nothing ever was.
 */
static bool
read_use(int32 attachment, uint32 object, NbmfUse *use)
{
	Relation rel = open_use(AccessShareLock);
	SysScanDesc scan = scan_use(rel, attachment, object, 2);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	memset(use, 0, sizeof(*use));
	use->object = object;
	if (found)
		use_from_tuple(tuple, RelationGetDescr(rel), use);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static void
write_use(int32 attachment, const NbmfUse *use)
{
	Relation rel = open_use(RowExclusiveLock);
	SysScanDesc scan = scan_use(rel, attachment, use->object, 2);
	HeapTuple old = systable_getnext(scan);
	Datum values[Natts_use];

	values[Anum_use_attachment - 1] = Int32GetDatum(attachment);
	values[Anum_use_object - 1] = UInt32GetDatum(use->object);
	values[Anum_use_values - 1] = Int64GetDatum(use->values);
	values[Anum_use_raw_bytes - 1] = Int64GetDatum(use->raw_bytes);
	values[Anum_use_stored_bytes - 1] = Int64GetDatum(use->stored_bytes);
	values[Anum_use_kept_ratio - 1] = Float8GetDatum(use->kept_ratio);
	values[Anum_use_trained_before - 1] = Int64GetDatum((int64) use->trained_before);
	values[Anum_use_measured_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	nbmf_catalog_write(rel, old, values);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}

/*
 * Partitions of one attachment may be maintained at once: the rows of an
 * attachment are written under this lock, to the end of the transaction.
 */
static void
lock_use(int32 attachment)
{
	LockDatabaseObject(get_relname_relid("dictionary_use", get_namespace_oid("nbmf", false)),
					   (Oid) attachment, 0, ExclusiveLock);
}

/*
 * Add what a pass has counted for one dictionary.  Once there is enough for a
 * judgement, older counts go: the ratio is that of the values that came last.
 */
void
nbmf_use_add(int32 attachment, const NbmfUse *seen)
{
	NbmfUse use;

	lock_use(attachment);
	read_use(attachment, seen->object, &use);
	if (seen->object != 0 && seen->values >= USE_MIN_VALUES)
		use.values = use.raw_bytes = use.stored_bytes = 0;
	use.values += seen->values;
	use.raw_bytes += seen->raw_bytes;
	use.stored_bytes += seen->stored_bytes;
	write_use(attachment, &use);
}

/*
 * Horizon of the last training: older values have been looked at.
 */
uint64
nbmf_use_trained_before(int32 attachment)
{
	NbmfUse use;

	return read_use(attachment, 0, &use) ? use.trained_before : 0;
}

/*
 * Training has looked at the column: what it left as it is, is not to be tried
 * again for the same reason.
 */
void
nbmf_use_trained(int32 attachment)
{
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	NbmfUse without = {.trained_before = nbmf_pass_horizon(GetActiveSnapshot())};
	List *uses = NIL;
	ListCell *lc;

	lock_use(attachment);
	rel = open_use(AccessShareLock);
	scan = scan_use(rel, attachment, 0, 1);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		NbmfUse *use = palloc(sizeof(NbmfUse));

		use_from_tuple(tuple, RelationGetDescr(rel), use);
		uses = lappend(uses, use);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	foreach (lc, uses)
	{
		NbmfUse *use = lfirst(lc);

		if (use->object == 0)
			continue;
		if (use->stored_bytes > 0 && use->values >= USE_MIN_VALUES)
			use->kept_ratio = (double) use->raw_bytes / (double) use->stored_bytes;
		use->values = use->raw_bytes = use->stored_bytes = 0;
		write_use(attachment, use);
	}
	write_use(attachment, &without);
	list_free_deep(uses);
}

void
nbmf_use_forget(int32 attachment)
{
	Relation rel = open_use(RowExclusiveLock);
	SysScanDesc scan = scan_use(rel, attachment, 0, 1);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}

/* Has a dictionary, with that ratio when it was trained, lost too much since? */
static bool
has_drifted(uint32 object, double ratio, void *arg)
{
	NbmfUse use;
	double now;

	if (!read_use(*(int32 *) arg, object, &use) || use.values < USE_MIN_VALUES ||
		(double) use.raw_bytes < USE_MIN_BYTES || use.stored_bytes <= 0)
		return false;
	now = (double) use.raw_bytes / (double) use.stored_bytes;
	if (use.kept_ratio > 0)
		ratio = use.kept_ratio;
	return now < ratio * (1 - nbmf_drift_limit);
}

static bool
is_any(uint32 object, double ratio, void *arg)
{
	return true;
}

/*
 * Is training due for an attachment, whose table, all partitions and TOAST
 * included, has that many bytes?
 */
bool
nbmf_training_is_due(int32 attachment, double table_bytes)
{
	NbmfUse without;

	/* a restored database has dictionaries, but has counted nothing yet */
	if (!read_use(attachment, 0, &without))
	{
		if (!nbmf_any_current_dictionary(attachment, is_any, NULL))
			return true;
	}
	else if ((double) without.raw_bytes >= NEW_MIN_BYTES &&
			 (double) without.raw_bytes >= NEW_MIN_PART * table_bytes)
		return true;
	return nbmf_any_current_dictionary(attachment, has_drifted, &attachment);
}

/*
 * nbmf.training_due(attachment, relation), for the view nbmf.attached
 */
Datum
nbmf_training_due(PG_FUNCTION_ARGS)
{
	double bytes;
	double rows;

	nbmf_table_extent(PG_GETARG_OID(1), &bytes, &rows);
	PG_RETURN_BOOL(nbmf_training_is_due(PG_GETARG_INT32(0), bytes));
}

void
nbmf_use_init(void)
{
	DefineCustomBoolVariable("nbmf.auto_train", "Lets nbmf.maintain() train where that is due.",
							 "Otherwise nbmf.attached says where it is.", &nbmf_auto_train, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("nbmf.drift_limit",
							 "Part of its ratio that a dictionary may lose before training is due.",
							 NULL, &nbmf_drift_limit, 0.15, 0, 1, PGC_USERSET, 0, NULL, NULL, NULL);
}
