/*
 * nbmf_maintain.c
 *		CALL nbmf.maintain([relation [, max_runtime]]): train where that is due,
 *		and re-encode values that get smaller by it.
 *
 * A table is worked through in batches of blocks.  A batch reads its blocks
 * under a snapshot, decodes each value that is not yet of the tier it should be
 * of (L2, or L3 by its age or class) with its current objects, encodes it anew, decodes and compares the result; then it
 * updates the rows whose value has not changed meanwhile, and commits.  Rows
 * that another session has locked are left for the next time.  What a batch
 * refers to was committed before it began, so a crash at any point leaves whole
 * values, each old or new.  How far a pass has come is committed with each
 * batch (nbmf_pass.c), so that the next call goes on there.
 *
 * Updates run as the table's owner, in a security-restricted operation, and
 * with session_replication_role = replica, so that they fire none of the
 * user's triggers: no value changes, only its bytes.  The row trigger does fire,
 * for logical replication's sake, and finds nothing to do.
 */
#include "postgres.h"

#include <limits.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "tier/tier.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_maintain);
PG_FUNCTION_INFO_V1(nbmf_same_frame);

/* Blocks that one transaction works through */
#define BATCH_BLOCKS 64

/*
 * A row is written anew only if its value gets smaller by this part: less does
 * not pay for the dead row that an update leaves.
 */
#define MIN_GAIN 16

/* Nothing is as old as that */
#define AGE_YEARS_MAX INT64CONST(2000)

/* The moments that a date or timestamp can be in are less than this apart */
#define ZONES_DAYS 2

/* A relation with storage, and its attached column */
typedef struct Target
{
	Oid relid;
	AttrNumber body;
	bool train; /* where the column was attached, not a partition of that */
} Target;

/* A value to be replaced */
typedef struct Replacement
{
	ItemPointerData tid;
	Nbmf *before;
	Nbmf *after;
} Replacement;

/* Maintenance of one target: what is to be done, and what came of it */
typedef struct Step
{
	const Target *target;
	NbmfPass pass;
	bool begun;   /* a pass */
	bool resumed; /* the pass is one that an earlier call began */
	bool ages;    /* there are classes whose values come of age */
	bool done;    /* nothing is left to do */
	bool train;
	char *name;                  /* NULL: not found, or without storage */
	List *bad_objects;           /* ids of shared objects that have been warned of */
	int32 attachment;            /* of the values counted in uses */
	HTAB *uses;                  /* NbmfUse by dictionary */
	uint64 trained_before;       /* horizon of the last training */
	NbmfTotals totals;           /* of this call */
	MemoryContext context;       /* outlives transactions */
	MemoryContext batch_context; /* is reset after each batch */
} Step;

static int nbmf_maintain_wal_rate = 0; /* kB/s, 0: no limit */

/*
 * Attached columns, of one table and what is below it or of all tables that
 * the caller owns.
 */
static List *
list_targets(Oid only, MemoryContext context)
{
	List *targets = NIL;
	List *tree = NIL;
	int result;

	if (OidIsValid(only))
	{
		Relation rel = nbmf_open_owned(only, AccessShareLock);

		nbmf_require_all_rows(rel, "nbmf.maintain()");
		tree = find_all_inheritors(only, AccessShareLock, NULL);
		table_close(rel, NoLock);
	}
	result = SPI_execute("SELECT t.tgrelid, t.tgattr[0], t.tgparentid = 0 "
						 "FROM pg_catalog.pg_trigger t "
						 "JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid "
						 "WHERE t.tgfoid = 'nbmf.encode()'::pg_catalog.regprocedure "
						 "AND pg_catalog.pg_has_role(c.relowner, 'USAGE') "
						 "AND (c.relpersistence <> 't' OR pg_catalog.pg_is_other_temp_schema("
						 "c.relnamespace) IS NOT TRUE) "
						 "ORDER BY t.tgrelid",
						 true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc tupdesc = SPI_tuptable->tupdesc;
		MemoryContext old;
		Target *target;
		bool isnull;
		Oid relid = DatumGetObjectId(SPI_getbinval(row, tupdesc, 1, &isnull));

		if (tree != NIL && !list_member_oid(tree, relid))
			continue;
		old = MemoryContextSwitchTo(context);
		target = palloc(sizeof(Target));
		target->relid = relid;
		target->body = DatumGetInt16(SPI_getbinval(row, tupdesc, 2, &isnull));
		target->train = DatumGetBool(SPI_getbinval(row, tupdesc, 3, &isnull));
		targets = lappend(targets, target);
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return targets;
}

/*
 * The relation of a target, if it is still there and still attached.
 */
static Relation
open_target(const Target *target, LOCKMODE lock, NbmfAttachment *attachment)
{
	Relation rel;

	/*
	 * An update of a partition asks for its parents, too: take them first, in
	 * the order of those who work on the parent.
	 */
	if (get_rel_relispartition(target->relid))
	{
		List *ancestors = get_partition_ancestors(target->relid);

		for (int i = list_length(ancestors) - 1; i >= 0; i--)
			LockRelationOid(list_nth_oid(ancestors, i), AccessShareLock);
	}
	rel = try_relation_open(target->relid, lock);

	if (rel != NULL && !nbmf_attachment_of_column(rel, target->body, attachment))
	{
		relation_close(rel, lock);
		rel = NULL;
	}
	return rel;
}

/*
 * Count a value as the row trigger has left it: what it takes while the
 * dictionary (0: none) was the one for it.
 */
static void
count_use(Step *step, NbmfShare share, uint32 dictionary, HeapTuple row, const NbmfFrame *frame,
		  Size frame_len)
{
	NbmfUse *use;
	bool found;

	if (frame->tier != NBMF_TIER_L1 || (frame->object != 0 && frame->object != dictionary) ||
		share == NBMF_SHARE_NONE)
		return;

	/* one without came before the dictionary, or is smaller without it */
	if (frame->object == 0 && nbmf_row_precedes(row, step->trained_before))
		return;
	use = hash_search(step->uses, &dictionary, HASH_ENTER, &found);
	if (!found)
	{
		memset(use, 0, sizeof(*use));
		use->object = dictionary;
	}
	use->values++;
	use->raw_bytes += (int64) frame->raw_len;
	use->stored_bytes += (int64) nbmf_stored_size(frame_len);
}

static bool
is_within(int64 n, int64 limit)
{
	return n >= -limit && n <= limit;
}

/*
 * A moment that long ago; the beginning of time where it cannot be said.
 */
static TimestampTz
moment_before(TimestampTz moment, Interval span)
{
	if (!is_within(span.month, 12 * AGE_YEARS_MAX) || !is_within(span.day, 366 * AGE_YEARS_MAX) ||
		span.time / USECS_PER_DAY > 366 * AGE_YEARS_MAX)
		return DT_NOBEGIN;
	return DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(moment), IntervalPGetDatum(&span)));
}

/*
 * Is a row of the age for L3 at a moment?  surely: in all time zones, for what a
 * session with another setting has found.
 */
static bool
is_of_age(const NbmfAttachment *attachment, HeapTuple row, TupleDesc tupdesc,
		  const NbmfClass *class, TimestampTz moment, bool surely)
{
	TimestampTz cutoff;
	TimestampTz age;
	Datum datum;
	Oid type;
	int overflow;
	bool isnull;

	if (!class->has_l3 || attachment->age_by == InvalidAttrNumber)
		return false;
	datum = heap_getattr(row, attachment->age_by, tupdesc, &isnull);
	if (isnull)
		return false;
	type = getBaseType(TupleDescAttr(tupdesc, attachment->age_by - 1)->atttypid);

	/* what is out of range becomes an infinity, which is as good here */
	if (type == DATEOID)
		age = date2timestamptz_opt_overflow(DatumGetDateADT(datum), &overflow);
	else if (type == TIMESTAMPOID)
		age = timestamp2timestamptz_opt_overflow(DatumGetTimestamp(datum), &overflow);
	else
		age = DatumGetTimestampTz(datum);
	cutoff = moment_before(moment, class->l3_after);
	if (surely && type != TIMESTAMPTZOID && !TIMESTAMP_NOT_FINITE(cutoff))
		cutoff -= ZONES_DAYS * USECS_PER_DAY;
	return age <= cutoff;
}

/*
 * Say, once in a call, which shared object keeps values from being maintained.
 */
static void
warn_of_object(Step *step, uint32 object, NbmfStatus status)
{
	MemoryContext old;

	if ((status != NBMF_ERR_OBJECT && status != NBMF_ERR_OBJECT_DAMAGED) ||
		list_member_oid(step->bad_objects, object))
		return;
	old = MemoryContextSwitchTo(step->context);
	step->bad_objects = lappend_oid(step->bad_objects, object);
	MemoryContextSwitchTo(old);
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("\"%s\": shared object %u is %s", step->name, object,
					status == NBMF_ERR_OBJECT ? "missing" : "damaged"),
			 errdetail("Values that need it are left as they are."),
			 errhint("Restore that row of nbmf.object from a backup; nbmf_verify_table() finds the "
					 "values that need it.")));
}

/*
 * Can values be encoded with these objects at that level?
 */
static bool
objects_are_sound(Step *step, NbmfObjectIds objects, int level)
{
	const NbmfDict *dict;
	const NbmfModel *model;
	uint32 object = objects.dictionary;
	NbmfStatus status = NBMF_OK;

	if (objects.dictionary != 0)
		status = nbmf_dict_for_encode(objects.dictionary, level, &dict);
	if (status == NBMF_OK && objects.model != 0)
	{
		object = objects.model;
		status = nbmf_model_for(objects.model, &model);
	}
	warn_of_object(step, object, status);
	return status == NBMF_OK;
}

/*
 * Encode a value anew if that is due; NULL if it is not, or does not pay.
 */
static Nbmf *
tighten(Step *step, const NbmfAttachment *attachment, HeapTuple row, TupleDesc tupdesc, Datum datum)
{
	bool tried = nbmf_row_precedes(row, step->pass.tried_before);
	const NbmfClass *class;
	NbmfShare share;
	NbmfObjectIds objects;
	NbmfTier tier = NBMF_TIER_L2;
	NbmfStatus status;
	NbmfFrame frame;
	Size frame_len;
	Nbmf *value;
	char *content;
	Size saved;
	int level;

	/* only coming of age makes due what a pass has tried */
	if (tried && !step->ages)
		return NULL;
	if (nbmf_value_parse(datum, &frame, &frame_len) != NBMF_OK)
	{
		step->totals.damaged++;
		return NULL;
	}
	class = nbmf_class_of_row(attachment, row, tupdesc);
	if (class == NULL)
		return NULL;
	if (class->neural || is_of_age(attachment, row, tupdesc, class, step->pass.started_at, false))
		tier = NBMF_TIER_L3;
	if (tried && (class->neural || tier < NBMF_TIER_L3 ||
				  is_of_age(attachment, row, tupdesc, class, step->pass.tried_at, true)))
		return NULL;
	/* looking for objects may read the classes anew */
	level = class->l2_level;
	share = class->share;
	objects = nbmf_objects_of_row(attachment, row, tupdesc, class);
	if (tier < NBMF_TIER_L3)
		objects.model = 0;
	else if (objects.model == 0)
		tier = NBMF_TIER_L2;
	if (frame.tier >= tier && (frame.object == objects.dictionary ||
							   (objects.model != 0 && frame.object == objects.model)))
		return NULL;
	if (!tried)
		count_use(step, share, objects.dictionary, row, &frame, frame_len);

	status = nbmf_value_try_decode(DatumGetNbmfPP(datum), 0, &frame, &content);
	if (status != NBMF_OK)
	{
		warn_of_object(step, frame.object, status);
		step->totals.damaged++;
		return NULL;
	}
	if (!objects_are_sound(step, objects, level))
	{
		step->totals.skipped++;
		return NULL;
	}
	value = nbmf_value_encode(frame.kind, tier, content, frame.raw_len, level, objects);
	saved = nbmf_stored_size(frame_len) / MIN_GAIN;
	if (nbmf_stored_size(VARSIZE_ANY_EXHDR(value)) + Max(saved, 1) > nbmf_stored_size(frame_len))
		return NULL;
	return value;
}

/*
 * Read a batch of blocks and make the replacements for it, in the batch's
 * context.
 */
static List *
collect_batch(Step *step, Relation rel, const NbmfAttachment *attachment)
{
	BlockNumber start = step->pass.next_block;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext row_context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf maintain row", ALLOCSET_DEFAULT_SIZES);
	ItemPointerData first;
	ItemPointerData last;
	TableScanDesc scan;
	List *replacements = NIL;

	ItemPointerSet(&first, start, FirstOffsetNumber);
	ItemPointerSet(&last, Min(start + BATCH_BLOCKS, step->pass.blocks) - 1, MaxOffsetNumber);
	scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), &first, &last);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		bool should_free;
		HeapTuple row = ExecFetchSlotHeapTuple(slot, false, &should_free);
		bool isnull;
		Datum datum = slot_getattr(slot, attachment->body, &isnull);
		Nbmf *after;

		CHECK_FOR_INTERRUPTS();
		if (!isnull)
		{
			step->totals.seen++;
			after = tighten(step, attachment, row, RelationGetDescr(rel), datum);
			if (after != NULL)
			{
				Replacement *replacement;

				MemoryContextSwitchTo(step->batch_context);
				replacement = palloc(sizeof(Replacement));
				replacement->tid = slot->tts_tid;
				replacement->before = DatumGetNbmfPP(
					datumCopy(PointerGetDatum(PG_DETOAST_DATUM_PACKED(datum)), false, -1));
				replacement->after =
					(Nbmf *) DatumGetPointer(datumCopy(PointerGetDatum(after), false, -1));
				replacements = lappend(replacements, replacement);
			}
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(row_context);
	return replacements;
}

/*
 * Update the rows of a batch that still hold the value that was encoded.
 */
static void
apply_batch(Relation rel, const NbmfAttachment *attachment, List *replacements, NbmfTotals *totals)
{
	Form_pg_attribute body = TupleDescAttr(RelationGetDescr(rel), attachment->body - 1);
	Oid types[3] = {TIDOID, getBaseType(body->atttypid), getBaseType(body->atttypid)};
	const char *table = nbmf_quoted_relation(RelationGetRelid(rel));
	const char *column = quote_identifier(NameStr(body->attname));
	Oid user;
	int security;
	int nest_level;
	SPIPlanPtr plan;
	ListCell *lc;

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   security | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	/* the sub-select locks the row, or finds it locked, changed or gone */
	plan = SPI_prepare(psprintf("UPDATE ONLY %s SET %s = $2 WHERE ctid OPERATOR(pg_catalog.=) "
								"(SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) $1 "
								"AND nbmf.same_frame(%s, $3) FOR NO KEY UPDATE SKIP LOCKED)",
								table, column, table, column),
					   3, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	foreach (lc, replacements)
	{
		Replacement *replacement = lfirst(lc);
		Datum values[3] = {PointerGetDatum(&replacement->tid), PointerGetDatum(replacement->after),
						   PointerGetDatum(replacement->before)};
		int result;

		CHECK_FOR_INTERRUPTS();
		result = SPI_execute_plan(plan, values, NULL, false, 0);
		if (result != SPI_OK_UPDATE)
			elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
		if (SPI_processed == 1)
		{
			totals->replaced++;
			totals->bytes_before += nbmf_stored_size(VARSIZE_ANY_EXHDR(replacement->before));
			totals->bytes_after += nbmf_stored_size(VARSIZE_ANY_EXHDR(replacement->after));
		}
		else
			totals->skipped++;
	}
	SPI_freeplan(plan);

	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, security);
}

/*
 * Sleep until the WAL written since start fits nbmf.maintain_wal_rate.
 */
static void
throttle(XLogRecPtr start, TimestampTz started)
{
	double wal_kb = (double) (GetXLogInsertRecPtr() - start) / 1024;

	while (nbmf_maintain_wal_rate > 0)
	{
		double due_ms = wal_kb * 1000 / nbmf_maintain_wal_rate;
		long spent_ms = TimestampDifferenceMilliseconds(started, GetCurrentTimestamp());

		CHECK_FOR_INTERRUPTS();
		if ((double) spent_ms >= due_ms)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) Min(due_ms - (double) spent_ms + 1, 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * See whether training is due, and say that it begins.
 */
static void
prepare_training(Step *step)
{
	NbmfAttachment attachment;
	Relation rel = open_target(step->target, AccessShareLock, &attachment);
	double bytes;
	double rows;

	if (rel == NULL)
		return;
	nbmf_table_extent(RelationGetRelid(rel), &bytes, &rows);
	if (nbmf_attachment_is_known(&attachment) && nbmf_training_is_due(attachment.id, bytes))
	{
		step->train = true;
		nbmf_pass_read(RelationGetRelid(rel), step->target->body, &step->pass);
		step->pass.attachment = attachment.id;
		step->pass.phase = NBMF_PHASE_TRAINING;
		step->pass.started_at = GetCurrentTimestamp();
		nbmf_pass_write(&step->pass);
	}
	relation_close(rel, NoLock);
}

static void
train(Step *step)
{
	NbmfAttachment attachment;
	Relation rel = open_target(step->target, ShareUpdateExclusiveLock, &attachment);

	if (rel == NULL)
		return;
	if (nbmf_attachment_is_known(&attachment))
	{
		nbmf_require_all_rows(rel, "nbmf.maintain()");
		nbmf_train_column(rel, &attachment);
	}
	step->pass.phase = NBMF_PHASE_IDLE;
	nbmf_pass_write(&step->pass);
	relation_close(rel, NoLock);
}

/*
 * Begin a pass, or go on with the one that an earlier call has left, and write
 * down who is at it, for others to see from the first batch on.
 */
static void
begin_pass(Step *step)
{
	NbmfAttachment attachment;
	Relation rel = open_target(step->target, RowExclusiveLock, &attachment);
	NbmfPass *pass = &step->pass;
	int64 settings;

	step->done = true;
	if (rel == NULL)
		return;
	if (!RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind) || !nbmf_attachment_is_known(&attachment))
	{
		relation_close(rel, NoLock);
		return;
	}
	if (step->name == NULL)
	{
		nbmf_require_all_rows(rel, "nbmf.maintain()");
		CheckCmdReplicaIdentity(rel, CMD_UPDATE);
		step->name = MemoryContextStrdup(step->context, RelationGetRelationName(rel));
	}

	settings = nbmf_settings_fingerprint(attachment.id);
	nbmf_pass_read(RelationGetRelid(rel), step->target->body, pass);
	if (pass->attachment != attachment.id || pass->settings != settings ||
		pass->filenode != rel->rd_rel->relfilenode)
	{
		pass->tried_before = 0;
		pass->pass_before = 0;
	}
	step->resumed = pass->pass_before != 0;
	if (!step->resumed)
	{
		/* in this order: what older transactions wrote is in these blocks */
		pass->pass_before = nbmf_pass_horizon(GetActiveSnapshot());
		pass->blocks = RelationGetNumberOfBlocks(rel);
		pass->next_block = 0;
		pass->started_at = GetCurrentTimestamp();
		memset(&pass->totals, 0, sizeof(pass->totals));
	}
	pass->attachment = attachment.id;
	pass->settings = settings;
	pass->filenode = rel->rd_rel->relfilenode;
	pass->phase = NBMF_PHASE_REENCODING;
	nbmf_pass_write(pass);
	step->begun = true;
	step->done = false;
	relation_close(rel, NoLock);
}

/*
 * The pass has seen all of its blocks.  Rows that were locked, or whose new
 * object is damaged, keep the horizon where it was, so that the next pass comes
 * back to them; damaged ones do not: nothing will come of them.
 */
static void
end_pass(Step *step)
{
	NbmfPass *pass = &step->pass;

	if (pass->totals.skipped == 0)
	{
		pass->tried_before = pass->pass_before;
		pass->tried_at = pass->started_at;
	}
	pass->pass_before = 0;
	pass->phase = NBMF_PHASE_IDLE;

	/* an earlier call's pass does not know what has come in since */
	step->begun = false;
	step->done = !step->resumed;
}

static void
add_totals(NbmfTotals *sum, const NbmfTotals *before, const NbmfTotals *after)
{
	sum->seen += after->seen - before->seen;
	sum->replaced += after->replaced - before->replaced;
	sum->skipped += after->skipped - before->skipped;
	sum->damaged += after->damaged - before->damaged;
	sum->bytes_before += after->bytes_before - before->bytes_before;
	sum->bytes_after += after->bytes_after - before->bytes_after;
}

/*
 * Work through one batch of blocks, and write down that it is done.
 */
static void
maintain_batch(Step *step)
{
	NbmfAttachment attachment;
	Relation rel = open_target(step->target, RowExclusiveLock, &attachment);
	NbmfTotals before = step->totals;
	List *replacements;

	if (rel == NULL || !nbmf_attachment_is_known(&attachment))
	{
		step->done = true;
		if (rel != NULL)
			relation_close(rel, NoLock);
		return;
	}

	/* rows may have moved to where the pass has been already */
	if (step->pass.attachment != attachment.id || step->pass.filenode != rel->rd_rel->relfilenode)
	{
		step->begun = false;
		relation_close(rel, NoLock);
		return;
	}
	step->attachment = attachment.id;
	step->trained_before = nbmf_use_trained_before(attachment.id);
	step->ages = attachment.age_by != InvalidAttrNumber && nbmf_any_class_ages();

	if (step->pass.next_block < step->pass.blocks)
	{
		replacements = collect_batch(step, rel, &attachment);
		if (replacements != NIL)
			apply_batch(rel, &attachment, replacements, &step->totals);
		step->pass.next_block += BATCH_BLOCKS;
	}
	add_totals(&step->pass.totals, &before, &step->totals);
	if (step->pass.next_block >= step->pass.blocks)
	{
		step->pass.next_block = step->pass.blocks;
		end_pass(step);
	}
	nbmf_pass_write(&step->pass);
	relation_close(rel, NoLock);
}

/*
 * Write down what dictionaries have done for new values, unless the column has
 * been detached meanwhile: nobody would ever forget it again.
 */
static void
store_uses(Step *step)
{
	NbmfAttachment attachment;
	Relation rel = open_target(step->target, AccessShareLock, &attachment);
	HASH_SEQ_STATUS scan;
	NbmfUse *use;

	if (rel == NULL)
		return;
	if (attachment.id == step->attachment)
	{
		hash_seq_init(&scan, step->uses);
		while ((use = hash_seq_search(&scan)) != NULL)
			nbmf_use_add(step->attachment, use);
	}
	relation_close(rel, NoLock);
}

/*
 * Run a step in a subtransaction of a transaction of its own, and commit.
 *
 * When all tables are maintained (not strict), what is wrong with one must not
 * keep the others from it: the error is reported as a warning, and false
 * returned.
 */
static bool
run_step(void (*work)(Step *), Step *step, bool strict)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	/* whatever the default is: rows that change meanwhile are no error here */
	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(step->batch_context);
	PG_TRY();
	{
		work(step);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;
		char *name;

		MemoryContextSwitchTo(step->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(step->context);
		CurrentResourceOwner = owner;
		if (strict || error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
			ReThrowError(error);
		name = get_rel_name(step->target->relid);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not maintain table \"%s\"", name != NULL ? name : "(dropped)"),
				 errdetail_internal("%s", error->message),
				 error->hint != NULL ? errhint("%s", error->hint) : 0));
		FreeErrorData(error);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextReset(step->batch_context);
	PopActiveSnapshot();
	SPI_commit();
	return ok;
}

/*
 * Work through a target, whose maintenance this session has the lock on.
 * Returns false if the time is up.
 */
static bool
work_through(Step *step, TimestampTz deadline, bool strict)
{
	XLogRecPtr wal_start = GetXLogInsertRecPtr();
	TimestampTz started = GetCurrentTimestamp();
	bool in_time = true;
	bool ok = true;

	if (step->target->train && nbmf_auto_train)
		ok = run_step(prepare_training, step, strict);
	if (ok && step->train)
		ok = run_step(train, step, strict);
	while (ok && !step->done)
	{
		if (deadline != 0 && GetCurrentTimestamp() >= deadline)
		{
			in_time = false;
			break;
		}
		if (!step->begun)
			ok = run_step(begin_pass, step, strict);
		if (ok && !step->done)
			ok = run_step(maintain_batch, step, strict);
		throttle(wal_start, started);
	}
	if (ok && hash_get_num_entries(step->uses) > 0)
		ok = run_step(store_uses, step, strict);

	if (ok && step->name != NULL)
		ereport(
			NOTICE,
			(errmsg("\"%s\": " UINT64_FORMAT " of " UINT64_FORMAT " values re-encoded, %s",
					step->name, step->totals.replaced, step->totals.seen,
					in_time ? "done" : "out of time"),
			 errdetail("From " UINT64_FORMAT " to " UINT64_FORMAT " bytes; " UINT64_FORMAT
					   " values were locked, changed meanwhile or lack an object, " UINT64_FORMAT
					   " are damaged.",
					   step->totals.bytes_before, step->totals.bytes_after, step->totals.skipped,
					   step->totals.damaged),
			 step->totals.replaced > 0
				 ? errhint("VACUUM makes the space that was saved free for reuse.")
				 : 0));
	return in_time;
}

/*
 * Maintain a target, unless another session is at it.  Returns false if the
 * time is up.
 */
static bool
maintain_target(const Target *target, TimestampTz deadline, MemoryContext context, bool strict)
{
	Step step = {.target = target, .context = context};
	HASHCTL control = {.keysize = sizeof(uint32), .entrysize = sizeof(NbmfUse), .hcxt = context};
	bool in_time = true;

	if (!nbmf_pass_lock(target->relid, target->body))
	{
		char *name = get_rel_name(target->relid);

		ereport(NOTICE, (errmsg("\"%s\" is being maintained by another session",
								name != NULL ? name : "(dropped)"),
						 errhint("pg_stat_progress_nbmf shows how far that is.")));
		return true;
	}
	step.batch_context =
		AllocSetContextCreate(context, "nbmf maintain batch", ALLOCSET_DEFAULT_SIZES);
	step.uses = hash_create("nbmf uses", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	PG_TRY();
	{
		in_time = work_through(&step, deadline, strict);
	}
	PG_FINALLY();
	{
		nbmf_pass_unlock(target->relid, target->body);
	}
	PG_END_TRY();
	hash_destroy(step.uses);
	MemoryContextDelete(step.batch_context);
	return in_time;
}

/*
 * nbmf.maintain(relation, max_runtime); both may be null.
 */
Datum
nbmf_maintain(PG_FUNCTION_ARGS)
{
	Oid only = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	TimestampTz deadline = 0;
	MemoryContext context;
	List *targets;
	ListCell *lc;

	nbmf_require_nonatomic(fcinfo, "nbmf.maintain()");
	if (!PG_ARGISNULL(1))
		deadline = DatumGetTimestampTz(
			DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
								PG_GETARG_DATUM(1)));

	/* what outlives the transactions of this call */
	context = AllocSetContextCreate(PortalContext, "nbmf maintain", ALLOCSET_DEFAULT_SIZES);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PushActiveSnapshot(GetTransactionSnapshot());
	nbmf_pass_forget_dropped();
	targets = list_targets(only, context);
	PopActiveSnapshot();
	if (OidIsValid(only) && targets == NIL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("no column of table \"%s\" is attached", get_rel_name(only)),
						errhint("Attach it with nbmf.attach() first.")));
	SPI_commit();

	foreach (lc, targets)
		if (!maintain_target(lfirst(lc), deadline, context, OidIsValid(only)))
			break;

	SPI_finish();
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}

/*
 * Are two values the same to the byte?  (Equality asks for content only.)
 */
Datum
nbmf_same_frame(PG_FUNCTION_ARGS)
{
	Nbmf *a = PG_GETARG_NBMF_PP(0);
	Nbmf *b = PG_GETARG_NBMF_PP(1);

	PG_RETURN_BOOL(VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
				   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0);
}

void
nbmf_tier_init(void)
{
	DefineCustomIntVariable("nbmf.maintain_wal_rate",
							"Most WAL that nbmf.maintain() writes, in kilobytes a second.",
							"0 sets no limit.", &nbmf_maintain_wal_rate, 0, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	nbmf_use_init();
}
