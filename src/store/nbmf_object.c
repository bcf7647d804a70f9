/*
 * nbmf_object.c
 *		Reading the table nbmf.object.
 *
 * Objects are read by whoever reads a value: unprivileged roles, parallel
 * workers, logical decoding, backends of a standby.  So there is no SPI, no
 * permission check of the reader, and no dependence on its snapshot: the row
 * is found through the primary key with SNAPSHOT_TOAST, which sees it from the
 * moment it is there, as a TOAST chunk is seen by whoever holds the pointer.
 * That is safe because an object is committed before the first value that
 * refers to it is made, and is never changed or deleted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store/store.h"

/* Columns of nbmf.object; the install script and this must agree */
#define Anum_object_id         1
#define Anum_object_attachment 2
#define Anum_object_payload    6
#define Anum_object_checksum   7

/*
 * OID of nbmf.object, InvalidOid where the extension is not installed.
 */
Oid
nbmf_object_relation(void)
{
	Oid schema = get_namespace_oid("nbmf", true);

	return OidIsValid(schema) ? get_relname_relid("object", schema) : InvalidOid;
}

/*
 * Name the column that an attachment is, for an error's detail: its trigger
 * has the attachment's id as first argument (tier/nbmf_attach.c).
 */
static char *
describe_attachment(int32 attachment)
{
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	Oid schema = get_namespace_oid("nbmf", false);
	char *result = NULL;
	HeapTuple tuple;

	while (result == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		char *name;
		char *column;
		bytea *args;
		bool isnull;

		if (trigger->tgnargs < 1 || get_func_namespace(trigger->tgfoid) != schema)
			continue;
		args = DatumGetByteaP(
			heap_getattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(rel), &isnull));
		if (strtol(VARDATA(args), NULL, 10) != attachment || trigger->tgattr.dim1 < 1)
			continue;
		name = get_rel_name(trigger->tgrelid);
		column = get_attname(trigger->tgrelid, trigger->tgattr.values[0], true);
		if (name != NULL && column != NULL)
			result = psprintf("column \"%s\" of relation \"%s\"", column, name);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result != NULL ? result : psprintf("attachment %d, which no column is now", attachment);
}

/*
 * Find the row of an object, and hand it to work, if it is there.
 */
static bool
with_object(uint32 id, void (*work)(HeapTuple tuple, TupleDesc tupdesc, void *arg), void *arg)
{
	SnapshotData toast_snapshot = {.snapshot_type = SNAPSHOT_TOAST};
	Oid relid = nbmf_object_relation();
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	bool found;
	bool push;

	if (!OidIsValid(relid))
		return false;
	rel = table_open(relid, AccessShareLock);

	/* fetching the payload from TOAST wants one, which logical decoding lacks */
	push = !HaveRegisteredOrActiveSnapshot();
	if (push)
		PushActiveSnapshot(GetCatalogSnapshot(relid));
	ScanKeyInit(&key, Anum_object_id, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum((int32) id));
	scan = systable_beginscan(rel, nbmf_primary_key_index(rel), true, &toast_snapshot, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		work(tuple, RelationGetDescr(rel), arg);
	systable_endscan(scan);
	if (push)
		PopActiveSnapshot();
	table_close(rel, AccessShareLock);
	return found;
}

/* NULL where the payload is not what its checksum is of */
static void
get_payload(HeapTuple tuple, TupleDesc tupdesc, void *arg)
{
	bytea **payload = arg;
	bool isnull;
	int64 checksum = DatumGetInt64(heap_getattr(tuple, Anum_object_checksum, tupdesc, &isnull));

	*payload = DatumGetByteaPCopy(heap_getattr(tuple, Anum_object_payload, tupdesc, &isnull));
	if (checksum != (int64) nbmf_checksum(VARDATA(*payload), VARSIZE(*payload) - VARHDRSZ))
	{
		pfree(*payload);
		*payload = NULL;
	}
}

/*
 * Read an object into the current memory context.  NBMF_ERR_OBJECT if there is
 * none with that id, NBMF_ERR_OBJECT_DAMAGED if it does not match its checksum.
 */
NbmfStatus
nbmf_object_read(uint32 id, bytea **payload)
{
	if (!with_object(id, get_payload, payload))
		return NBMF_ERR_OBJECT;
	return *payload != NULL ? NBMF_OK : NBMF_ERR_OBJECT_DAMAGED;
}

static void
get_owner(HeapTuple tuple, TupleDesc tupdesc, void *arg)
{
	bool isnull;

	*(char **) arg = describe_attachment(
		DatumGetInt32(heap_getattr(tuple, Anum_object_attachment, tupdesc, &isnull)));
}

/*
 * The column that an object was made for, for an error's detail.
 */
char *
nbmf_object_owner(uint32 id)
{
	char *owner = NULL;

	(void) with_object(id, get_owner, &owner);
	return owner != NULL ? owner : pstrdup("no column");
}
