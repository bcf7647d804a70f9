/*
 * nbmf_train.c
 *		CALL nbmf.train(relation, column): learn dictionaries from a column.
 *
 * A random block sample of the column, of bounded size, is parted by class and
 * tenant as the classes' share settings say.  Of each part every second
 * document trains, the others judge: several dictionaries are made, and the
 * one with the smallest sum of all frames and its own size is kept, if that is
 * smaller than doing without, or with the one in use.
 *
 * It is a procedure because it must commit: a dictionary may be used only by
 * transactions that begin after the one that made it has ended.  Everything
 * before is one transaction with a ShareUpdateExclusiveLock on the table, so
 * two trainings of a column wait for each other and readers and writers wait
 * for none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "tier/tier.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_train);

/* Pages that the sample reads, about: 16 MB of rows */
#define SAMPLE_PAGES 2048

/* Most content that one part takes, about */
#define PART_BYTES ((Size) 8 * 1024 * 1024)

/* A longer document has enough in itself, and would crowd out the others */
#define DOCUMENT_BYTES ((Size) 64 * 1024)

/* Fewer documents, or less content, than this are not worth a dictionary */
#define PART_MIN_DOCUMENTS 32
#define PART_MIN_BYTES     ((Size) 8 * 1024)

/* Documents of one class and tenant */
typedef struct Part
{
	char scope[NBMF_SCOPE_LEN]; /* key */
	NameData class_name;
	char *tenant; /* NULL: all */
	NbmfDocuments documents;
	Size seen_bytes; /* content that the sample has of it */
} Part;

static Part *
find_part(HTAB *parts, const NbmfClass *class, const char *tenant)
{
	char scope[NBMF_SCOPE_LEN];
	Part *part;
	bool found;

	nbmf_make_scope(scope, NameStr(class->name), tenant);
	part = hash_search(parts, scope, HASH_ENTER, &found);
	if (!found)
	{
		part->class_name = class->name;
		part->tenant = tenant != NULL ? pstrdup(tenant) : NULL;
		part->seen_bytes = 0;
		nbmf_documents_init(&part->documents);
	}
	return part;
}

/*
 * Percentage of the table's blocks that a sample of SAMPLE_PAGES is.
 */
static double
sample_percent(Relation rel)
{
	double bytes;
	double rows;

	nbmf_table_extent(RelationGetRelid(rel), &bytes, &rows);
	return bytes <= (double) SAMPLE_PAGES * BLCKSZ ? 100
												   : 100 * (double) SAMPLE_PAGES * BLCKSZ / bytes;
}

/*
 * Add a column to the query, without a cast: whoever runs the query must not
 * run code of the table's owner, and a cast can be that.
 */
static void
append_column(StringInfo query, TupleDesc columns, AttrNumber column, const char *separator)
{
	if (column == InvalidAttrNumber)
		appendStringInfo(query, "NULL%s", separator);
	else
		appendStringInfo(query, "%s%s",
						 quote_identifier(NameStr(TupleDescAttr(columns, column - 1)->attname)),
						 separator);
}

/*
 * Look at one row of the sample.  The first time it is only counted for its
 * part; the second time it is taken with the probability that fills the part.
 */
static void
sample_row(const NbmfAttachment *attachment, HTAB *parts, MemoryContext part_context, bool counting,
		   HeapTuple row, TupleDesc tupdesc)
{
	char *class_name = SPI_getvalue(row, tupdesc, 2);
	char *tenant = SPI_getvalue(row, tupdesc, 3);
	const NbmfClass *class = class_name != NULL ? nbmf_class_lookup(class_name) : NULL;
	MemoryContext old;
	NbmfFrame frame;
	Size frame_len;
	char *content = NULL;
	Part *part;
	bool isnull;
	Datum datum = SPI_getbinval(row, tupdesc, 1, &isnull);

	if (class == NULL)
		class = nbmf_class_lookup(nbmf_attachment_class(attachment->id));
	if (isnull || class == NULL || class->share == NBMF_SHARE_NONE)
		return;
	if (class->share == NBMF_SHARE_COLUMN)
		tenant = NULL;
	else if (tenant == NULL || strlen(tenant) >= NBMF_TENANT_MAX)
		return;
	if (nbmf_value_parse(datum, &frame, &frame_len) != NBMF_OK || frame.raw_len == 0 ||
		frame.raw_len > DOCUMENT_BYTES)
		return;

	old = MemoryContextSwitchTo(part_context);
	part = find_part(parts, class, tenant);
	MemoryContextSwitchTo(old);
	if (!counting && pg_prng_double(&pg_global_prng_state) * (double) part->seen_bytes > PART_BYTES)
		return;

	/* what is damaged teaches nothing; nbmf.maintain() and nbmf_verify_table() tell */
	if ((!counting || !frame.complete) &&
		nbmf_value_try_decode(DatumGetNbmfPP(datum), 0, &frame, &content) != NBMF_OK)
		return;
	if (counting)
		part->seen_bytes += frame.raw_len;
	else
	{
		MemoryContextSwitchTo(part_context);
		nbmf_documents_add(&part->documents, content, frame.raw_len);
		MemoryContextSwitchTo(old);
	}
}

/*
 * Read a sample of the table into parts.  Returns the share of the table that
 * was read, 0 to 1.
 */
static double
read_sample(Relation rel, const NbmfAttachment *attachment, HTAB *parts, MemoryContext part_context)
{
	double percent = sample_percent(rel);
	TupleDesc columns = RelationGetDescr(rel);
	StringInfoData query;
	MemoryContext row_context;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	append_column(&query, columns, attachment->body, ", ");
	append_column(&query, columns, attachment->class_by, ", ");
	append_column(&query, columns, attachment->tenant_by, "");
	appendStringInfo(&query, " FROM %s TABLESAMPLE SYSTEM (%.10g) REPEATABLE (%u)",
					 nbmf_quoted_relation(RelationGetRelid(rel)), percent,
					 pg_prng_uint32(&pg_global_prng_state));

	row_context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf sample rows", ALLOCSET_DEFAULT_SIZES);
	for (int pass = 0; pass < 2; pass++)
	{
		Portal portal = SPI_cursor_open_with_args(NULL, query.data, 0, NULL, NULL, NULL, true, 0);

		for (;;)
		{
			SPI_cursor_fetch(portal, true, 256);
			if (SPI_processed == 0)
				break;
			for (uint64 i = 0; i < SPI_processed; i++)
			{
				MemoryContext old = MemoryContextSwitchTo(row_context);

				CHECK_FOR_INTERRUPTS();
				sample_row(attachment, parts, part_context, pass == 0, SPI_tuptable->vals[i],
						   SPI_tuptable->tupdesc);
				MemoryContextSwitchTo(old);
				MemoryContextReset(row_context);
			}
			SPI_freetuptable(SPI_tuptable);
		}
		SPI_cursor_close(portal);
	}
	MemoryContextDelete(row_context);
	return percent / 100;
}

/*
 * Add a row to nbmf.object; the caller need not have rights on it.
 */
static uint32
mint_object(int32 attachment, const Part *part, const char *kind, bool edge_only, bytea *payload,
			double ratio)
{
	Oid schema = get_namespace_oid("nbmf", false);
	Relation rel = table_open(get_relname_relid("object", schema), RowExclusiveLock);
	uint32 id = (uint32) nextval_internal(get_relname_relid("object_id", schema), false);
	Datum values[10];
	bool nulls[10] = {false};
	NameData class_name = part->class_name;

	values[0] = UInt32GetDatum(id);
	values[1] = Int32GetDatum(attachment);
	values[2] = NameGetDatum(&class_name);
	nulls[3] = part->tenant == NULL;
	values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(part->tenant);
	values[4] = BoolGetDatum(edge_only);
	values[5] = PointerGetDatum(payload);
	values[6] = Int64GetDatum((int64) nbmf_checksum(VARDATA(payload), VARSIZE(payload) - VARHDRSZ));
	values[7] = Float8GetDatum(ratio);
	values[8] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[9] = CStringGetTextDatum(kind);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, RowExclusiveLock);
	nbmf_settings_changed();
	return id;
}

/*
 * What a notice calls a part: column, class and tenant.
 */
static const char *
part_name(Relation rel, const char *column, const Part *part)
{
	return psprintf("\"%s\".\"%s\", class \"%s\"%s", RelationGetRelationName(rel), column,
					NameStr(part->class_name),
					part->tenant != NULL ? psprintf(", tenant \"%s\"", part->tenant) : "");
}

/*
 * Train a dictionary for one part, and say what came of it.  Returns the one
 * for new values, 0 if there is none.
 */
static uint32
train_dictionary(const char *name, int32 attachment, const Part *part, const NbmfClass *class,
				 double table_bytes)
{
	uint32 current =
		nbmf_current_objects(attachment, NameStr(part->class_name), part->tenant).dictionary;
	double ratio = 0;
	bytea *payload =
		nbmf_documents_train(&part->documents, class->l1_level,
							 table_bytes / part->documents.half[1].len, current, &ratio);
	uint32 id;

	if (payload == NULL)
	{
		ereport(NOTICE, (errmsg("%s: no new dictionary would pay", name)));
		return current;
	}
	id = mint_object(attachment, part, "dictionary", class->edge_only, payload, ratio);
	ereport(NOTICE, (errmsg("%s: dictionary %u of %d bytes, ratio %.2f", name, id,
							(int) (VARSIZE(payload) - VARHDRSZ), ratio)));
	return id;
}

/*
 * Train a model for one part, whose new values have that dictionary, and say
 * what came of it.
 */
static void
train_model(const char *name, int32 attachment, const Part *part, const NbmfClass *class,
			uint32 dictionary, double table_bytes)
{
	NbmfObjectIds current =
		nbmf_current_objects(attachment, NameStr(part->class_name), part->tenant);
	double ratio = 0;
	bytea *payload;
	uint32 id;

	current.dictionary = dictionary;
	payload =
		nbmf_documents_train_model(&part->documents, class->l2_level, table_bytes, current, &ratio);
	if (payload == NULL)
	{
		ereport(NOTICE, (errmsg("%s: no new model would pay", name)));
		return;
	}
	id = mint_object(attachment, part, "model", class->edge_only, payload, ratio);
	ereport(NOTICE, (errmsg("%s: model %u of %d bytes, ratio %.2f", name, id,
							(int) (VARSIZE(payload) - VARHDRSZ), ratio)));
}

/*
 * Train one part; share is the part of the table that the sample is.
 */
static void
finish_part(Relation rel, const char *column, int32 attachment, const Part *part, double share)
{
	const NbmfClass *found = nbmf_class_lookup(NameStr(part->class_name));
	const char *name = part_name(rel, column, part);
	size_t count = part->documents.count[0] + part->documents.count[1];
	Size bytes = part->documents.half[0].len + part->documents.half[1].len;
	double table_bytes = (double) part->seen_bytes / share;
	NbmfClass class;
	uint32 dictionary;

	/* dropped since the sample was read */
	if (found == NULL)
		return;
	class = *found;
	if (count < PART_MIN_DOCUMENTS || bytes < PART_MIN_BYTES)
	{
		ereport(NOTICE, (errmsg("%s: too little to learn from", name),
						 errdetail("%zu documents with %zu bytes.", count, bytes)));
		return;
	}
	dictionary = train_dictionary(name, attachment, part, &class, table_bytes);
	if (class.neural || class.has_l3)
		train_model(name, attachment, part, &class, dictionary, table_bytes);
}

/*
 * Refuse to run where a procedure cannot commit.
 */
void
nbmf_require_nonatomic(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("%s cannot run inside a transaction block", procedure),
						errdetail("What it makes must be committed before any value uses it."),
						errhint("CALL it by itself, outside of BEGIN and of functions.")));
	PreventCommandIfReadOnly(procedure);
	PreventCommandDuringRecovery(procedure);
}

/*
 * Refuse to read a table of which row-level security would hide rows.
 */
void
nbmf_require_all_rows(Relation rel, const char *procedure)
{
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("%s cannot work on table \"%s\" under row-level security", procedure,
							   RelationGetRelationName(rel)),
						errhint("CALL it as a role with BYPASSRLS.")));
}

/*
 * Train on an attached column and mint what pays.  The caller has connected
 * to SPI, holds ShareUpdateExclusiveLock on the table, and commits next.
 */
void
nbmf_train_column(Relation rel, const NbmfAttachment *attachment)
{
	const char *column =
		NameStr(TupleDescAttr(RelationGetDescr(rel), attachment->body - 1)->attname);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf sample", ALLOCSET_DEFAULT_SIZES);
	HASHCTL control = {
		.keysize = sizeof(((Part *) NULL)->scope), .entrysize = sizeof(Part), .hcxt = context};
	HTAB *parts = hash_create("nbmf sample", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	HASH_SEQ_STATUS scan;
	Part *part;
	double share;

	if (!nbmf_attachment_is_known(attachment))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("column \"%s\" of relation \"%s\" was attached in another database",
							   column, RelationGetRelationName(rel)),
						errhint("Use nbmf.detach() and nbmf.attach() to attach it here.")));
	share = read_sample(rel, attachment, parts, context);

	if (hash_get_num_entries(parts) == 0)
		ereport(NOTICE, (errmsg("\"%s\".\"%s\": nothing to learn from",
								RelationGetRelationName(rel), column)));
	hash_seq_init(&scan, parts);
	while ((part = hash_seq_search(&scan)) != NULL)
		finish_part(rel, column, attachment->id, part, share);
	nbmf_use_trained(attachment->id);
	MemoryContextDelete(context);
}

Datum
nbmf_train(PG_FUNCTION_ARGS)
{
	const char *column;
	NbmfAttachment attachment;
	Relation rel;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("relation and column must not be null")));
	column = NameStr(*PG_GETARG_NAME(1));
	nbmf_require_nonatomic(fcinfo, "nbmf.train()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = nbmf_open_owned(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
	if (!nbmf_attachment_of_column(rel, nbmf_body_column(rel, column), &attachment))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("column \"%s\" of relation \"%s\" is not attached", column,
							   RelationGetRelationName(rel)),
						errhint("Attach it with nbmf.attach() first.")));
	nbmf_require_all_rows(rel, "nbmf.train()");
	nbmf_train_column(rel, &attachment);
	table_close(rel, NoLock);
	PopActiveSnapshot();
	SPI_commit();
	SPI_finish();
	PG_RETURN_VOID();
}
