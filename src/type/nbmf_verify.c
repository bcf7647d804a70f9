/*
 * nbmf_verify.c
 *		nbmf_verify_table: decode every value of a column and name the bad ones.
 *
 * It goes on after a bad value.  Values in the row are checked through status
 * codes; only fetching a toasted value, or a dictionary or model, can throw, and
 * that happens in a subtransaction.  A value whose length says that it goes beyond its row is
 * reported rather than followed.
 *
 * The scan uses the active snapshot and takes an AccessShareLock on the table
 * and on each of its partitions and inheritance children in turn.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_verify_table);

/* What is found wrong with a value */
typedef struct Finding
{
	char sqlstate[6];
	const char *message;
	const char *detail; /* or NULL */
} Finding;

static bool
finding_of_status(NbmfStatus status, const NbmfFrame *frame, Finding *finding)
{
	int code = status == NBMF_ERR_RESERVED ? ERRCODE_FEATURE_NOT_SUPPORTED : ERRCODE_DATA_CORRUPTED;

	if (status == NBMF_OK)
		return false;
	if (status == NBMF_ERR_MEMORY)
		nbmf_report_damage(status, NULL);
	strlcpy(finding->sqlstate, unpack_sql_state(code), sizeof(finding->sqlstate));
	finding->message = "nbmf value is damaged";
	finding->detail = nbmf_status_text(status);
	if (status == NBMF_ERR_OBJECT || status == NBMF_ERR_OBJECT_DAMAGED)
		finding->detail = psprintf("Shared object %u, which the value needs, is %s.", frame->object,
								   status == NBMF_ERR_OBJECT ? "not there" : "damaged");
	return true;
}

static bool
check_whole(Nbmf *value, Finding *finding)
{
	NbmfFrame frame;
	NbmfStatus status = nbmf_value_check(value, &frame);

	return finding_of_status(status, &frame, finding);
}

/*
 * Check a value in a subtransaction, so that an error while fetching it or its
 * shared object ends nothing but the fetch.
 */
static bool
check_fetched(Datum datum, Finding *finding)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool bad = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		bad = check_whole(DatumGetNbmfPP(datum), finding);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;

		/* what is not about the data is not ours to swallow */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED))
			ReThrowError(error);
		strlcpy(finding->sqlstate, unpack_sql_state(error->sqlerrcode), sizeof(finding->sqlstate));
		finding->message = error->message;
		finding->detail = error->detail;
		bad = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return bad;
}

/*
 * Does the value end where its row does, at the latest?
 */
static bool
inside_tuple(TupleTableSlot *slot, AttrNumber attnum, Datum datum)
{
	char *value = DatumGetPointer(datum);
	bool should_free;
	HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
	char *end = (char *) tuple->t_data + tuple->t_len;

	/* a column added with a default since is not in the row, but in the catalog */
	if (attnum > HeapTupleHeaderGetNatts(tuple->t_data))
		return true;
	if (value < (char *) tuple->t_data || value >= end)
		return should_free; /* a copy: nothing to compare with */

	/* any other tag would have bytes of the row followed as an address */
	if (VARATT_IS_1B_E(value))
		return end - value >= TOAST_POINTER_SIZE && VARTAG_1B_E(value) == VARTAG_ONDISK;
	if (VARATT_IS_1B(value))
		return value + VARSIZE_1B(value) <= end;
	return end - value >= VARHDRSZ && VARSIZE_ANY(value) >= VARHDRSZ &&
		   VARSIZE_ANY(value) <= (Size) (end - value);
}

/*
 * Does a value in its row refer to an object?
 */
static bool
needs_object(Nbmf *value)
{
	Size len = VARSIZE_ANY_EXHDR(value);
	NbmfFrame frame;

	return nbmf_frame_parse(VARDATA_ANY(value), len, len, &frame) == NBMF_OK && frame.object != 0;
}

static bool
check_value(TupleTableSlot *slot, AttrNumber attnum, Datum datum, Finding *finding)
{
	if (!inside_tuple(slot, attnum, datum))
	{
		(void) finding_of_status(NBMF_ERR_LENGTH, NULL, finding);
		finding->detail = "The value goes on past the end of its row.";
		return true;
	}
	if (VARATT_IS_EXTERNAL(DatumGetPointer(datum)) ||
		VARATT_IS_COMPRESSED(DatumGetPointer(datum)) ||
		needs_object((Nbmf *) DatumGetPointer(datum)))
		return check_fetched(datum, finding);
	return check_whole((Nbmf *) DatumGetPointer(datum), finding);
}

/*
 * Check one relation with storage, adding a row to the result for each value
 * that is bad.
 */
static void
verify_relation(Relation rel, const char *column, ReturnSetInfo *rsinfo)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(rel), column);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan_strat(rel, GetActiveSnapshot(), 0, NULL, true, true);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "nbmf_verify_table value",
												  ALLOCSET_DEFAULT_SIZES);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Finding finding;
		bool isnull;
		Datum datum;

		CHECK_FOR_INTERRUPTS();
		datum = slot_getattr(slot, attnum, &isnull);
		if (!isnull && check_value(slot, attnum, datum, &finding))
		{
			Datum values[5];
			bool nulls[5] = {0};

			values[0] = ObjectIdGetDatum(RelationGetRelid(rel));
			values[1] = PointerGetDatum(&slot->tts_tid);
			values[2] = CStringGetTextDatum(finding.sqlstate);
			values[3] = CStringGetTextDatum(finding.message);
			nulls[4] = finding.detail == NULL;
			values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(finding.detail);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(context);
}

/*
 * May the caller read the column, all rows of it?  Raises an error if not.
 */
static void
check_access(Relation rel, const char *column)
{
	Oid relid = RelationGetRelid(rel);
	AttrNumber attnum = get_attnum(relid, column);

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table or materialized view",
							   RelationGetRelationName(rel))));
	if (attnum == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", column,
							   RelationGetRelationName(rel))));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, attnum, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot verify table \"%s\" under row-level security",
					RelationGetRelationName(rel)),
			 errhint("Run nbmf_verify_table() as the table's owner or a role with BYPASSRLS.")));
}

Datum
nbmf_verify_table(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	char *column = NameStr(*PG_GETARG_NAME(1));
	Oid type;
	Relation rel;
	List *children;
	ListCell *lc;

	InitMaterializedSRF(fcinfo, 0);
	rel = relation_open(relid, AccessShareLock);
	check_access(rel, column);
	type = get_atttype(relid, get_attnum(relid, column));
	if (!nbmf_is_type(getBaseType(type)))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of relation \"%s\" is of type %s, not nbmf", column,
							   RelationGetRelationName(rel), format_type_be(type))));

	children = find_all_inheritors(relid, AccessShareLock, NULL);
	foreach (lc, children)
	{
		Relation child = relation_open(lfirst_oid(lc), NoLock);

		if (RELKIND_HAS_TABLE_AM(child->rd_rel->relkind) && !RELATION_IS_OTHER_TEMP(child))
			verify_relation(child, column, (ReturnSetInfo *) fcinfo->resultinfo);
		/* find_all_inheritors has locked all but the parent */
		relation_close(child, lfirst_oid(lc) == relid ? NoLock : AccessShareLock);
	}
	relation_close(rel, AccessShareLock);
	return (Datum) 0;
}
