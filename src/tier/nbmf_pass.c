/*
 * nbmf_pass.c
 *		The table nbmf.pass: how far maintenance of a relation's column has come.
 *
 * A pass goes through the blocks of a relation once.  Its row is written in the
 * same transaction as each batch's updates, so a pass that was stopped, by a
 * crash too, goes on where it was; and others see how far it is, without
 * shared memory (pg_stat_progress_nbmf).
 *
 * A finished pass leaves a horizon, a transaction id: whatever older
 * transactions wrote has been looked at, and what still is as it was then did
 * not pay.  So the next pass decodes only what is newer.  The horizon is void
 * when what decides has changed: the dictionaries and classes (settings), or
 * the relation's file, in which rows may have moved.
 *
 * Who works on a pass holds a session lock (nbmf_pass_lock), which also says
 * that a row's pid is still at it.  Rows are not dumped: a restored database
 * has other transactions.  They also tell which relation an attachment was
 * made for, so that the attachment of a dropped table can go.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "tier/tier.h"

/* Columns of nbmf.pass; the install script and this must agree */
enum
{
	Anum_pass_relation = 1,
	Anum_pass_attnum,
	Anum_pass_attachment,
	Anum_pass_filenode,
	Anum_pass_settings,
	Anum_pass_tried_before,
	Anum_pass_pass_before,
	Anum_pass_tried_at,
	Anum_pass_next_block,
	Anum_pass_blocks,
	Anum_pass_phase,
	Anum_pass_pid,
	Anum_pass_started_at,
	Anum_pass_values_seen,
	Anum_pass_values_reencoded,
	Anum_pass_values_skipped,
	Anum_pass_values_damaged,
	Anum_pass_bytes_before,
	Anum_pass_bytes_after,
	Natts_pass = Anum_pass_bytes_after
};

static const char *const phases[] = {"idle", "training", "re-encoding"};

/*
 * A transaction id older than this, compared by its lower half only, might be
 * taken for a newer one.
 */
#define XID_HALF_RANGE UINT64CONST(0x7fffffff)

static Relation
open_pass(LOCKMODE lock)
{
	return nbmf_catalog_open("pass", lock);
}

static HeapTuple
find_pass(Relation rel, Oid relid, AttrNumber body, SysScanDesc *scan)
{
	ScanKeyData key[2];

	ScanKeyInit(&key[0], Anum_pass_relation, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pass_attnum, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(body));
	*scan = systable_beginscan(rel, nbmf_primary_key_index(rel), true, NULL, 2, key);
	return systable_getnext(*scan);
}

static void
set_lock_tag(LOCKTAG *tag, Oid relid, AttrNumber body)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, RelationRelationId, relid, body);
}

/*
 * Take the session's lock on the maintenance of a column; false if another
 * session has it.
 */
bool
nbmf_pass_lock(Oid relid, AttrNumber body)
{
	LOCKTAG tag;

	set_lock_tag(&tag, relid, body);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
nbmf_pass_unlock(Oid relid, AttrNumber body)
{
	LOCKTAG tag;

	set_lock_tag(&tag, relid, body);
	LockRelease(&tag, ExclusiveLock, true);
}

static int64
int64_at(HeapTuple tuple, TupleDesc tupdesc, AttrNumber column)
{
	bool isnull;

	return DatumGetInt64(heap_getattr(tuple, column, tupdesc, &isnull));
}

/*
 * Where the pass of a column stands; all zeros but for the keys if there is
 * none.
 */
void
nbmf_pass_read(Oid relid, AttrNumber body, NbmfPass *pass)
{
	Relation rel = open_pass(AccessShareLock);
	TupleDesc tupdesc = RelationGetDescr(rel);
	SysScanDesc scan;
	HeapTuple tuple = find_pass(rel, relid, body, &scan);
	bool isnull;

	memset(pass, 0, sizeof(*pass));
	pass->relation = relid;
	pass->body = body;
	if (HeapTupleIsValid(tuple))
	{
		pass->attachment =
			DatumGetInt32(heap_getattr(tuple, Anum_pass_attachment, tupdesc, &isnull));
		pass->filenode =
			DatumGetObjectId(heap_getattr(tuple, Anum_pass_filenode, tupdesc, &isnull));
		pass->settings = int64_at(tuple, tupdesc, Anum_pass_settings);
		pass->tried_before = (uint64) int64_at(tuple, tupdesc, Anum_pass_tried_before);
		pass->pass_before = (uint64) int64_at(tuple, tupdesc, Anum_pass_pass_before);
		pass->tried_at = (TimestampTz) int64_at(tuple, tupdesc, Anum_pass_tried_at);
		pass->next_block = (BlockNumber) int64_at(tuple, tupdesc, Anum_pass_next_block);
		pass->blocks = (BlockNumber) int64_at(tuple, tupdesc, Anum_pass_blocks);
		pass->started_at = (TimestampTz) int64_at(tuple, tupdesc, Anum_pass_started_at);
		pass->totals.seen = (uint64) int64_at(tuple, tupdesc, Anum_pass_values_seen);
		pass->totals.replaced = (uint64) int64_at(tuple, tupdesc, Anum_pass_values_reencoded);
		pass->totals.skipped = (uint64) int64_at(tuple, tupdesc, Anum_pass_values_skipped);
		pass->totals.damaged = (uint64) int64_at(tuple, tupdesc, Anum_pass_values_damaged);
		pass->totals.bytes_before = (uint64) int64_at(tuple, tupdesc, Anum_pass_bytes_before);
		pass->totals.bytes_after = (uint64) int64_at(tuple, tupdesc, Anum_pass_bytes_after);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Write where a pass stands; the caller need not have rights on the table.
 * Seen by others when the transaction commits.
 */
void
nbmf_pass_write(const NbmfPass *pass)
{
	Relation rel = open_pass(RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple old = find_pass(rel, pass->relation, pass->body, &scan);
	Datum values[Natts_pass];

	values[Anum_pass_relation - 1] = ObjectIdGetDatum(pass->relation);
	values[Anum_pass_attnum - 1] = Int16GetDatum(pass->body);
	values[Anum_pass_attachment - 1] = Int32GetDatum(pass->attachment);
	values[Anum_pass_filenode - 1] = ObjectIdGetDatum(pass->filenode);
	values[Anum_pass_settings - 1] = Int64GetDatum(pass->settings);
	values[Anum_pass_tried_before - 1] = Int64GetDatum((int64) pass->tried_before);
	values[Anum_pass_pass_before - 1] = Int64GetDatum((int64) pass->pass_before);
	values[Anum_pass_tried_at - 1] = TimestampTzGetDatum(pass->tried_at);
	values[Anum_pass_next_block - 1] = Int64GetDatum(pass->next_block);
	values[Anum_pass_blocks - 1] = Int64GetDatum(pass->blocks);
	values[Anum_pass_phase - 1] = CStringGetTextDatum(phases[pass->phase]);
	values[Anum_pass_pid - 1] = Int32GetDatum(MyProcPid);
	values[Anum_pass_started_at - 1] = TimestampTzGetDatum(pass->started_at);
	values[Anum_pass_values_seen - 1] = Int64GetDatum((int64) pass->totals.seen);
	values[Anum_pass_values_reencoded - 1] = Int64GetDatum((int64) pass->totals.replaced);
	values[Anum_pass_values_skipped - 1] = Int64GetDatum((int64) pass->totals.skipped);
	values[Anum_pass_values_damaged - 1] = Int64GetDatum((int64) pass->totals.damaged);
	values[Anum_pass_bytes_before - 1] = Int64GetDatum((int64) pass->totals.bytes_before);
	values[Anum_pass_bytes_after - 1] = Int64GetDatum((int64) pass->totals.bytes_after);
	nbmf_catalog_write(rel, old, values);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}

/*
 * The horizon that a pass which begins now may leave: whatever older
 * transactions wrote is there to be seen.
 */
uint64
nbmf_pass_horizon(Snapshot snapshot)
{
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return next - (uint32) ((uint32) next - snapshot->xmin);
}

/*
 * Was a row last written before a horizon (0: none)?  Rows whose age cannot be
 * told were not: to look at one again costs only time.
 */
bool
nbmf_row_precedes(HeapTuple row, uint64 horizon)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(row->t_data);
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (horizon == 0 || next - horizon >= XID_HALF_RANGE || !TransactionIdIsNormal(xmin))
		return false;

	/* what seems to be of the future is of a past more than half a range away */
	return TransactionIdPrecedes(xmin, (TransactionId) horizon) ||
		   TransactionIdFollowsOrEquals(xmin, (TransactionId) next);
}

/*
 * Delete the rows of an attachment.
 */
void
nbmf_pass_forget(int32 attachment)
{
	Relation rel = open_pass(RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pass_attachment, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(attachment));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}

/*
 * Does any trigger name the attachment?  The caller has connected to SPI.
 */
static bool
has_trigger(int32 attachment)
{
	Oid types[1] = {TEXTOID};
	Datum value = CStringGetTextDatum(psprintf("%d", attachment));
	int result;

	/* the relation is gone as of now, and so are its triggers, but only as of now */
	PushActiveSnapshot(GetLatestSnapshot());
	result = SPI_execute_with_args(
		"SELECT FROM pg_catalog.pg_trigger "
		"WHERE tgfoid OPERATOR(pg_catalog.=) 'nbmf.encode()'::pg_catalog.regprocedure "
		"AND pg_catalog.split_part(pg_catalog.encode(tgargs, 'escape'), '\\000', 1) "
		"OPERATOR(pg_catalog.=) $1",
		1, types, &value, NULL, true, 1);
	PopActiveSnapshot();
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
	return SPI_processed > 0;
}

/*
 * Forget what is known of relations that have been dropped, and attachments
 * that no trigger names any more.  Objects stay, as ever.  The caller has
 * connected to SPI.
 */
void
nbmf_pass_forget_dropped(void)
{
	Relation rel = open_pass(RowExclusiveLock);
	TupleDesc tupdesc = RelationGetDescr(rel);
	SysScanDesc scan;
	HeapTuple tuple;
	LOCKTAG tag;

	/* another session may be at the same; then it is done there */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationGetRelid(rel), InvalidOid, 0);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		table_close(rel, RowExclusiveLock);
		return;
	}

	/* with the lock, so that it sees what others have deleted before */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Oid relid = DatumGetObjectId(heap_getattr(tuple, Anum_pass_relation, tupdesc, &isnull));
		int32 attachment =
			DatumGetInt32(heap_getattr(tuple, Anum_pass_attachment, tupdesc, &isnull));

		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			continue;
		CatalogTupleDelete(rel, &tuple->t_self);
		if (attachment != 0 && !has_trigger(attachment))
			nbmf_attachment_delete(attachment);
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
}
