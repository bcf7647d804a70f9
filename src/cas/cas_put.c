/*
 * cas_put.c
 *		nbmf_put: insert a value, or say which row has it already.
 *
 * Everything is done by SQL, as the caller and with its rights, row-level
 * security, triggers and constraints.  Candidates come from the index; their
 * contents are compared.  Two sessions that put the same at the same time both
 * insert, unless a constraint forbids it: then the second one waits, inserts
 * nothing, and looks again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "cas/cas.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_put);

/* Candidates whose contents are compared, the nearest first */
#define CANDIDATES 100

/* Times that an insert is tried which meets a conflict but finds no row */
#define ATTEMPTS 10

typedef struct Put
{
	Relation table;
	AttrNumber column;
	Oid index;
	double threshold;
	Oid type;
	Oid ball_type;
	NbmfBall ball;
	Datum value;
	Datum others;
	bool no_others;
	NbmfKey key;
	NbmfFrame frame;
	char *content;
	char *same_sql;
	char *near_sql;
	char *insert_sql;
	CasVerifier verifier; /* for the statistics */
	/* what is found */
	Datum values[5];
	bool nulls[5];
} Put;

/* An operator as SQL; a type that is binary coercible to another has none */
static char *
operator_name(Oid operator)
{
	HeapTuple tuple;
	Form_pg_operator form;
	char *result;

	if (!OidIsValid(operator))
		return pstrdup("OPERATOR(pg_catalog.=)");
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

static Oid
member(Relation index, int column, int strategy)
{
	Oid type = index->rd_opcintype[column];

	return get_opfamily_member(index->rd_opfamily[column], type, type, (int16) strategy);
}

static const char *
column_name(Relation table, AttrNumber column)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(table), column - 1)->attname));
}

static char *
table_name(Relation table)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
									  RelationGetRelationName(table));
}

static bool
is_given(const Put *put, AttrNumber column)
{
	const char *name = NameStr(TupleDescAttr(RelationGetDescr(put->table), column - 1)->attname);

	return !put->no_others &&
		   DatumGetBool(DirectFunctionCall2(jsonb_exists, put->others, CStringGetTextDatum(name)));
}

/*
 * The index to look in: of all rows, on the column, and on others that are
 * given; the one with the most of these.
 */
static void
choose_index(Put *put)
{
	List *indexes = RelationGetIndexList(put->table);
	int most = -1;
	ListCell *lc;

	foreach (lc, indexes)
	{
		Relation index = relation_open(lfirst_oid(lc), AccessShareLock);
		int n = IndexRelationGetNumberOfKeyAttributes(index);
		bool usable = nbmf_cas_is_method(index) && index->rd_index->indisvalid &&
					  RelationGetIndexPredicate(index) == NIL;
		bool has_column = false;

		for (int i = 0; usable && i < n; i++)
		{
			AttrNumber column = index->rd_index->indkey.values[i];

			if (column == put->column)
				has_column = true;
			else
				usable = column > 0 && is_given(put, column);
		}
		if (usable && has_column && n > most)
		{
			most = n;
			put->index = lfirst_oid(lc);
		}
		relation_close(index, NoLock);
	}
	if (most < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no nbmf_cas index to look for column %s of table \"%s\" in",
						column_name(put->table, put->column), RelationGetRelationName(put->table)),
				 errhint("Create one, or give a value for each of its other columns.")));
}

/* The primary key of a row as a jsonb object, as SQL */
static char *
key_expression(Relation table, const char *alias)
{
	Oid primary = nbmf_primary_key_index(table);
	StringInfoData sql;
	Relation index;

	if (!OidIsValid(primary))
		return pstrdup("NULL::pg_catalog.jsonb");
	initStringInfo(&sql);
	appendStringInfoString(&sql, "pg_catalog.jsonb_build_object(");
	index = relation_open(primary, AccessShareLock);
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		AttrNumber column = index->rd_index->indkey.values[i];

		appendStringInfo(&sql, "%s%s, %s.%s", i > 0 ? ", " : "",
						 quote_literal_cstr(
							 NameStr(TupleDescAttr(RelationGetDescr(table), column - 1)->attname)),
						 alias, column_name(table, column));
	}
	relation_close(index, AccessShareLock);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static void
run(Put *put, const char *sql, int expected)
{
	Oid types[3] = {put->type, JSONBOID, put->ball_type};
	Datum values[3] = {put->value, put->others, PointerGetDatum(&put->ball)};
	char nulls[3] = {' ', put->no_others ? 'n' : ' ', ' '};

	if (SPI_execute_with_args(sql, 3, types, values, nulls, false, 0) != expected)
		elog(ERROR, "unexpected result of: %s", sql);
}

static bool
found(Put *put, int row, int column, bool exact, int distance, double similarity)
{
	put->values[0] =
		SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &put->nulls[0]);
	put->values[1] = BoolGetDatum(false);
	put->values[2] = BoolGetDatum(exact);
	put->values[3] = Int32GetDatum(distance);
	put->values[4] = Float8GetDatum(similarity);
	return true;
}

/*
 * Look for the value.  True if a row has it, or one whose content is as
 * similar as the threshold says; with any, also if it is only near.  The same
 * content is asked for first: it may not be among the nearest, of which many
 * can have one fingerprint.
 */
static bool
look(Put *put, bool any)
{
	int best = -1;
	double best_similarity = 0;
	int best_distance = 0;

	nbmf_cas_verify_again(&put->verifier);
	run(put, put->same_sql, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		nbmf_cas_verify_found(&put->verifier, true, true, 0, 1);
		return found(put, 0, 1, true, 0, 1);
	}
	/* contents that are as similar as can be may yet differ, in blanks say */
	if (put->threshold >= 1 && !any)
		return false;

	run(put, put->near_sql, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Datum other = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		double similarity;
		bool exact;
		int distance;

		nbmf_cas_compare(other, false, &put->key, &put->frame, put->content, &distance, &similarity,
						 &exact);
		nbmf_cas_verify_found(&put->verifier, true, exact, distance, similarity);
		/* one that came since it was asked for */
		if (exact)
			return found(put, (int) i, 2, true, distance, similarity);
		if (((similarity >= put->threshold || any) && similarity > best_similarity) ||
			(any && best < 0))
		{
			best = (int) i;
			best_similarity = similarity;
			best_distance = distance;
		}
	}
	return best >= 0 && found(put, best, 2, false, best_distance, best_similarity);
}

/*
 * Insert the value; false if a constraint is in the way.
 */
static bool
insert(Put *put)
{
	run(put, put->insert_sql, SPI_OK_INSERT_RETURNING);
	if (SPI_processed == 0)
		return false;
	put->values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &put->nulls[0]);
	put->values[1] = BoolGetDatum(true);
	put->nulls[2] = put->nulls[3] = put->nulls[4] = true;
	return true;
}

/*
 * Parameters of all statements: $1 the value, $2 other columns, $3 the ball.
 */
static void
look_sql(Put *put)
{
	Relation index = relation_open(put->index, AccessShareLock);
	char *key = key_expression(put->table, "t");
	const char *content = column_name(put->table, put->column);
	StringInfoData where;
	char *same = NULL;
	char *near = NULL;
	char *order = NULL;

	initStringInfo(&where);
	appendStringInfo(&where,
					 "FROM %s AS t, "
					 "pg_catalog.jsonb_populate_record(NULL::%s, coalesce($2, '{}')) AS r WHERE ",
					 table_name(put->table), table_name(put->table));
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		AttrNumber column = index->rd_index->indkey.values[i];
		const char *name = column_name(put->table, column);

		if (column != put->column)
			appendStringInfo(&where, "t.%s %s r.%s AND ", name,
							 operator_name(member(index, i, CAS_STRATEGY_EQUAL)), name);
		else
		{
			Oid ball = nbmf_cas_ball_operator(index, i);
			Oid left;

			op_input_types(ball, &left, &put->ball_type);
			same =
				psprintf("t.%s %s $1", name, operator_name(member(index, i, CAS_STRATEGY_EQUAL)));
			near = psprintf("t.%s %s $3", name, operator_name(ball));
			order = psprintf("t.%s %s $1", name,
							 operator_name(member(index, i, CAS_STRATEGY_DISTANCE)));
		}
	}
	relation_close(index, AccessShareLock);
	put->same_sql = psprintf("SELECT %s %s%s LIMIT 1", key, where.data, same);
	put->near_sql = psprintf("SELECT t.%s, %s %s%s ORDER BY %s LIMIT %d", content, key, where.data,
							 near, order, CANDIDATES);
}

static char *
insert_sql(Put *put)
{
	TupleDesc tupdesc = RelationGetDescr(put->table);
	StringInfoData names;
	StringInfoData values;

	initStringInfo(&names);
	initStringInfo(&values);
	for (AttrNumber column = 1; column <= tupdesc->natts; column++)
	{
		if (TupleDescAttr(tupdesc, column - 1)->attisdropped || column == put->column ||
			!is_given(put, column))
			continue;
		appendStringInfo(&names, ", %s", column_name(put->table, column));
		appendStringInfo(&values, ", r.%s", column_name(put->table, column));
	}
	return psprintf("INSERT INTO %s AS t (%s%s) SELECT $1%s "
					"FROM pg_catalog.jsonb_populate_record(NULL::%s, coalesce($2, '{}')) AS r "
					"ON CONFLICT DO NOTHING RETURNING %s",
					table_name(put->table), column_name(put->table, put->column), names.data,
					values.data, table_name(put->table), key_expression(put->table, "t"));
}

/*
 * nbmf_put(relation, "column", value [, others [, threshold]])
 */
Datum
nbmf_put(PG_FUNCTION_ARGS)
{
	Put put = {0};
	TupleDesc tupdesc;
	MemoryContext context = CurrentMemoryContext;
	Relation index;
	const char *column;
	bool done = false;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("table, column and value must not be null")));
	column = NameStr(*PG_GETARG_NAME(1));
	put.value = PG_GETARG_DATUM(2);
	put.no_others = PG_ARGISNULL(3);
	put.others = put.no_others ? (Datum) 0 : PG_GETARG_DATUM(3);

	put.table = table_open(PG_GETARG_OID(0), AccessShareLock);
	if (put.table->rd_rel->relkind != RELKIND_RELATION &&
		put.table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table", RelationGetRelationName(put.table))));
	put.column = get_attnum(RelationGetRelid(put.table), column);
	if (put.column <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", column,
							   RelationGetRelationName(put.table))));
	put.type = getBaseType(get_atttype(RelationGetRelid(put.table), put.column));
	if (!nbmf_is_type(put.type))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of relation \"%s\" is of type %s, not nbmf", column,
							   RelationGetRelationName(put.table), format_type_be(put.type))));
	choose_index(&put);

	nbmf_cas_key_of(put.value, &put.key);
	put.content = nbmf_value_decode(PG_GETARG_NBMF_PP(2), 0, &put.frame);
	index = relation_open(put.index, AccessShareLock);
	put.threshold = PG_ARGISNULL(4) ? nbmf_cas_index_threshold(index) : PG_GETARG_FLOAT8(4);
	put.ball.simhash = put.key.simhash;
	put.ball.distance = nbmf_cas_distance_of(put.threshold);
	look_sql(&put);
	put.insert_sql = insert_sql(&put);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	nbmf_cas_verify_begin(&put.verifier, index, &put.key);
	relation_close(index, AccessShareLock);
	PG_TRY();
	{
		done = look(&put, false);
		for (int i = 0; i < ATTEMPTS && !done; i++)
			done = insert(&put) || look(&put, true);
	}
	PG_FINALLY();
	{
		nbmf_cas_verify_end(&put.verifier);
	}
	PG_END_TRY();
	if (!done)
		ereport(ERROR, (errcode(ERRCODE_EXCLUSION_VIOLATION),
						errmsg("a constraint of table \"%s\" keeps the value out, but no row near "
							   "it is to be seen",
							   RelationGetRelationName(put.table))));
	if (!put.nulls[0])
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		put.values[0] = PointerGetDatum(PG_DETOAST_DATUM_COPY(put.values[0]));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	nbmf_cas_verify_count(&put.verifier);
	table_close(put.table, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, put.values, put.nulls)));
}
