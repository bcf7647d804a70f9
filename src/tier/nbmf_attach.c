/*
 * nbmf_attach.c
 *		nbmf.attach and nbmf.detach: putting a column under care.
 *
 * Which column is attached is said by its row trigger and nowhere else, so
 * renaming, dropping, dumping, partitioning and restoring need no code here:
 * the server keeps the trigger right.  The trigger is
 *
 *	BEFORE INSERT OR UPDATE OF body [, others] .. EXECUTE FUNCTION
 *	nbmf.encode('ID', 'ROLES', 'KEY')
 *
 * where ID is the key of nbmf.attachment, the first column after OF is the
 * body, and each letter of ROLES says what one of the others is for: c class,
 * t tenant, a age, g group.  KEY is random and stands in the row of
 * nbmf.attachment too: a table restored alone must not take another column's
 * row, which happens to have its number, for its own.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tier/tier.h"
#include "type/type.h"

/* The last of the triggers before a row, so that it sees what others made */
#define TRIGGER_PREFIX "zz_nbmf_"

PG_FUNCTION_INFO_V1(nbmf_attach);
PG_FUNCTION_INFO_V1(nbmf_detach);
PG_FUNCTION_INFO_V1(nbmf_notify_settings);

static AttrNumber *
role_column(NbmfAttachment *attachment, char role)
{
	switch (role)
	{
		case 'c':
			return &attachment->class_by;
		case 't':
			return &attachment->tenant_by;
		case 'a':
			return &attachment->age_by;
		case 'g':
			return &attachment->group_by;
		default:
			return NULL;
	}
}

/*
 * What a trigger with nbmf.encode as its function says; false if that is not
 * what nbmf.attach would have written.
 */
bool
nbmf_attachment_of_trigger(Trigger *trigger, NbmfAttachment *attachment)
{
	const char *roles;

	memset(attachment, 0, sizeof(*attachment));
	if (trigger->tgnargs != 3 || trigger->tgnattr < 1)
		return false;
	roles = trigger->tgargs[1];
	if (strlen(roles) != (size_t) trigger->tgnattr - 1)
		return false;
	attachment->id = (int32) strtol(trigger->tgargs[0], NULL, 10);

	/* a copy: dropping the trigger frees what the relcache has of it */
	strlcpy(attachment->key, trigger->tgargs[2], sizeof(attachment->key));
	attachment->body = trigger->tgattr[0];
	for (int i = 0; roles[i] != '\0'; i++)
	{
		AttrNumber *column = role_column(attachment, roles[i]);

		if (column == NULL)
			return false;
		*column = trigger->tgattr[i + 1];
	}
	return true;
}

static bool
is_our_trigger(Trigger *trigger)
{
	FmgrInfo finfo;

	if (!TRIGGER_FOR_ROW(trigger->tgtype) || !TRIGGER_FOR_BEFORE(trigger->tgtype))
		return false;
	fmgr_info(trigger->tgfoid, &finfo);
	return finfo.fn_addr == nbmf_encode_row;
}

static Trigger *
find_trigger(Relation rel, AttrNumber body, NbmfAttachment *attachment)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (is_our_trigger(trigger) && nbmf_attachment_of_trigger(trigger, attachment) &&
			attachment->body == body)
			return trigger;
	}
	return NULL;
}

/*
 * What the trigger on a column says; false if the column is not attached.
 */
bool
nbmf_attachment_of_column(Relation rel, AttrNumber body, NbmfAttachment *attachment)
{
	return find_trigger(rel, body, attachment) != NULL;
}

/*
 * Number of a column that must be there, of the given relation.
 */
AttrNumber
nbmf_column_number(Relation rel, const char *name)
{
	AttrNumber column = get_attnum(RelationGetRelid(rel), name);

	if (column == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", name,
							   RelationGetRelationName(rel))));
	if (column < 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("system column \"%s\" cannot be used", name)));
	return column;
}

/*
 * Number of the body column, which must be of type nbmf or a domain over it.
 */
AttrNumber
nbmf_body_column(Relation rel, const char *name)
{
	AttrNumber column = nbmf_column_number(rel, name);
	Oid type = get_atttype(RelationGetRelid(rel), column);

	if (!nbmf_is_type(getBaseType(type)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of relation \"%s\" is of type %s, not nbmf", name,
						RelationGetRelationName(rel), format_type_be(type)),
				 errhint("Change it with ALTER TABLE .. ALTER COLUMN \"%s\" TYPE nbmf.", name)));
	return column;
}

/*
 * Open a table to manage one of its columns: it must be a table, permanent or
 * not, and the caller must own it.
 */
Relation
nbmf_open_owned(Oid relid, LOCKMODE lock)
{
	Relation rel = try_relation_open(relid, lock);

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", relid)));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
	if (!nbmf_owns_relation(relid))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	return rel;
}

/*
 * Add the row of nbmf.attachment; the caller need not have rights on it.
 */
static int32
insert_attachment(const char *class_name, const char *key)
{
	Oid schema = get_namespace_oid("nbmf", false);
	Relation rel = table_open(get_relname_relid("attachment", schema), RowExclusiveLock);
	int32 id = (int32) nextval_internal(get_relname_relid("attachment_id", schema), false);
	NameData name;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	namestrcpy(&name, class_name);
	values[0] = Int32GetDatum(id);
	values[1] = NameGetDatum(&name);
	values[2] = CStringGetTextDatum(key);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, RowExclusiveLock);
	nbmf_settings_changed();
	return id;
}

/*
 * Delete the row of nbmf.attachment and what is kept about it, but not its
 * objects; the caller need not have rights on the tables.
 */
void
nbmf_attachment_delete(int32 id)
{
	Oid schema = get_namespace_oid("nbmf", false);
	Relation rel = table_open(get_relname_relid("attachment", schema), RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, nbmf_primary_key_index(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	nbmf_use_forget(id);
	nbmf_settings_changed();
}

static void
run_command(const char *command)
{
	int result = SPI_execute(command, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
}

/*
 * Column named in argument n, with the letter of its role added to the
 * trigger's columns and roles; nothing if the argument is null.
 */
static void
add_role(FunctionCallInfo fcinfo, int n, char role, Relation rel, AttrNumber body,
		 StringInfo columns, StringInfo roles)
{
	const char *name;
	AttrNumber column;
	Oid type;

	if (PG_ARGISNULL(n))
		return;
	name = NameStr(*PG_GETARG_NAME(n));
	column = nbmf_column_number(rel, name);
	type = getBaseType(get_atttype(RelationGetRelid(rel), column));
	if (column == body)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" cannot be its own class, age, tenant or group", name)));
	if (TupleDescAttr(RelationGetDescr(rel), column - 1)->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("generated column \"%s\" cannot tell class, age, tenant or group", name),
				 errdetail("It is computed after the row trigger has run.")));
	if (role == 'a' && type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" cannot be the age of values", name),
						errdetail("It is of type %s.", format_type_be(type)),
						errhint("age_by must be of type timestamptz, timestamp or date.")));
	appendStringInfo(columns, ", %s", quote_identifier(name));
	appendStringInfoChar(roles, role);
}

/*
 * Name of a column's trigger; where the column's own does not fit in it, the
 * attachment's number does.
 */
static const char *
trigger_name(const char *column, int32 id)
{
	if (strlen(TRIGGER_PREFIX) + strlen(column) < NAMEDATALEN)
		return psprintf(TRIGGER_PREFIX "%s", column);
	return psprintf(TRIGGER_PREFIX "%d", id);
}

/*
 * nbmf.attach(relation, column, class, class_by, age_by, tenant_by, group_by)
 */
Datum
nbmf_attach(PG_FUNCTION_ARGS)
{
	Relation rel;
	const char *column;
	const char *class_name = "general";
	AttrNumber body;
	NbmfAttachment existing;
	StringInfoData columns;
	StringInfoData roles;
	List *relations;
	ListCell *lc;
	NbmfPass pass = {0};
	uint64 random_key;
	char key[NBMF_KEY_LEN + 1];
	int32 id;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("relation and column must not be null")));
	column = NameStr(*PG_GETARG_NAME(1));
	if (!PG_ARGISNULL(2))
		class_name = NameStr(*PG_GETARG_NAME(2));

	rel = nbmf_open_owned(PG_GETARG_OID(0), ShareRowExclusiveLock);
	body = nbmf_body_column(rel, column);
	if (nbmf_attachment_of_column(rel, body, &existing))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("column \"%s\" of relation \"%s\" is already attached", column,
							   RelationGetRelationName(rel)),
						errhint("Use nbmf.detach() first to attach it otherwise.")));
	if (nbmf_class_lookup(class_name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("nbmf class \"%s\" does not exist", class_name),
				 errhint("SELECT name FROM nbmf.class lists classes; add a row for a new one.")));

	initStringInfo(&columns);
	initStringInfo(&roles);
	appendStringInfoString(&columns, quote_identifier(column));
	add_role(fcinfo, 3, 'c', rel, body, &columns, &roles);
	add_role(fcinfo, 4, 'a', rel, body, &columns, &roles);
	add_role(fcinfo, 5, 't', rel, body, &columns, &roles);
	add_role(fcinfo, 6, 'g', rel, body, &columns, &roles);

	if (!pg_strong_random(&random_key, sizeof(random_key)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random key")));
	snprintf(key, sizeof(key), "%016llx", (unsigned long long) random_key);
	id = insert_attachment(class_name, key);

	/* partitions get the trigger from their parent, inheritance children do not */
	relations = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
					? list_make1_oid(RelationGetRelid(rel))
					: find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL);
	/* ALTER TABLE wants nobody else to have it open; the lock stays */
	table_close(rel, NoLock);
	SPI_connect();
	foreach (lc, relations)
	{
		const char *table = nbmf_quoted_relation(lfirst_oid(lc));
		const char *trigger = quote_identifier(trigger_name(column, id));

		run_command(psprintf("CREATE TRIGGER %s BEFORE INSERT OR UPDATE OF %s ON %s "
							 "FOR EACH ROW EXECUTE FUNCTION nbmf.encode(%d, %s, '%s')",
							 trigger, columns.data, table, id, quote_literal_cstr(roles.data),
							 key));

		/* what logical replication applies is encoded as well */
		run_command(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, trigger));

		/* so that the attachment of a table that is dropped can be told */
		pass.relation = lfirst_oid(lc);
		pass.body = get_attnum(pass.relation, column);
		pass.attachment = id;
		nbmf_pass_write(&pass);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * nbmf.detach(relation, column)
 *
 * Values stay as they are, and so do the objects that they refer to.
 */
Datum
nbmf_detach(PG_FUNCTION_ARGS)
{
	const char *column = NameStr(*PG_GETARG_NAME(1));
	Relation rel = nbmf_open_owned(PG_GETARG_OID(0), AccessExclusiveLock);
	AttrNumber body = nbmf_body_column(rel, column);
	NbmfAttachment attachment;
	List *relations;
	ListCell *lc;

	if (!nbmf_attachment_of_column(rel, body, &attachment))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("column \"%s\" of relation \"%s\" is not attached", column,
							   RelationGetRelationName(rel))));

	relations = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
					? list_make1_oid(RelationGetRelid(rel))
					: find_all_inheritors(RelationGetRelid(rel), AccessExclusiveLock, NULL);
	SPI_connect();
	foreach (lc, relations)
	{
		Relation child = table_open(lfirst_oid(lc), NoLock);
		NbmfAttachment other;
		Trigger *trigger = find_trigger(child, get_attnum(lfirst_oid(lc), column), &other);
		char *command = NULL;

		if (trigger != NULL && other.id == attachment.id)
			command = psprintf("DROP TRIGGER %s ON %s", quote_identifier(trigger->tgname),
							   nbmf_quoted_relation(lfirst_oid(lc)));
		table_close(child, NoLock);
		if (command != NULL)
			run_command(command);
	}
	SPI_finish();
	if (nbmf_attachment_is_known(&attachment))
	{
		nbmf_pass_forget(attachment.id);
		nbmf_attachment_delete(attachment.id);
	}
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/*
 * Statement trigger of nbmf.class, nbmf.attachment and nbmf.object.
 */
Datum
nbmf_notify_settings(PG_FUNCTION_ARGS)
{
	nbmf_settings_changed();
	return PointerGetDatum(NULL);
}

/*
 * A relation's name as a command wants it.
 */
char *
nbmf_quoted_relation(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}
