/*
 * nbmf_estimate.c
 *		nbmf_estimate(relation, column, sample): what a column would take as nbmf,
 *		said from a sample, before anyone migrates.
 *
 * It reads a random sample of blocks, writes nothing and keeps nothing.  Each
 * rung of the ladder is measured by encoding documents of the sample, those
 * with a dictionary on the half that has not trained it.  The interval is that
 * of the mean of independent documents, at 95 %: rows of one block may be more
 * alike than that.
 */
#include "postgres.h"

#include <math.h>

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "tier/tier.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_estimate);

/* Content that the sample keeps at most; longer documents than this are cut */
#define SAMPLE_BYTES   ((Size) 32 * 1024 * 1024)
#define DOCUMENT_BYTES ((Size) 1024 * 1024)

/* The levels that new and aged values have by default */
#define L1_LEVEL 3
#define L2_LEVEL 15

#define Z_95     1.96

/* What the sample says */
typedef struct Survey
{
	double rows;        /* of the table, not null */
	double raw_bytes;   /* of the table */
	double sample_rows; /* seen, not null */
	double now_bytes;   /* sum of what they take now, and of squares */
	double now_squares;
	double table_bytes; /* heap and TOAST */
} Survey;

/*
 * The content that a value would have as nbmf.
 */
static const char *
content_of(Oid type, Datum datum, Size *len)
{
	StringInfoData text;
	NbmfFrame frame;
	struct varlena *value;
	char *content;

	if (nbmf_is_type(type))
	{
		content = nbmf_value_decode(DatumGetNbmfPP(datum), 0, &frame);
		*len = frame.raw_len;
		return content;
	}
	switch (type)
	{
		case JSONBOID:
			initStringInfo(&text);
			JsonbToCString(&text, &DatumGetJsonbP(datum)->root, VARSIZE(DatumGetJsonbP(datum)));
			*len = text.len;
			return text.data;
		case FLOAT4ARRAYOID:
		{
			ArrayType *array = DatumGetArrayTypeP(datum);

			*len = ARR_SIZE(array) - ARR_DATA_OFFSET(array);
			return ARR_DATA_PTR(array);
		}
		default:
			value = PG_DETOAST_DATUM_PACKED(datum);
			*len = VARSIZE_ANY_EXHDR(value);
			return VARDATA_ANY(value);
	}
}

static bool
type_is_supported(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == JSONOID ||
		   type == JSONBOID || type == BYTEAOID || type == FLOAT4ARRAYOID || nbmf_is_type(type);
}

/*
 * Read the sample: documents are gathered, and the table is surveyed.
 */
static void
survey_table(Relation rel, AttrNumber column, int sample, NbmfDocuments *documents, Survey *survey)
{
	Oid relid = RelationGetRelid(rel);
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), column - 1);
	const char *name = quote_identifier(NameStr(attribute->attname));
	Oid type = getBaseType(attribute->atttypid);
	MemoryContext keep = CurrentMemoryContext;
	MemoryContext row_context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf sample rows", ALLOCSET_DEFAULT_SIZES);
	Size kept = 0;
	double raw_bytes = 0;
	double estimate;
	double percent;
	Portal portal;

	memset(survey, 0, sizeof(*survey));
	nbmf_table_extent(relid, &survey->table_bytes, &estimate);

	/* never analyzed: take it that rows are at least this large */
	if (estimate <= 0)
		estimate = survey->table_bytes / 100;
	percent = estimate <= sample || survey->table_bytes <= (double) SAMPLE_BYTES
				  ? 100
				  : 100.0 * sample / estimate;

	portal = SPI_cursor_open_with_args(
		NULL,
		psprintf("SELECT %s, pg_catalog.pg_column_size(%s) FROM %s TABLESAMPLE SYSTEM (%.10g) "
				 "WHERE %s IS NOT NULL",
				 name, name, nbmf_quoted_relation(relid), percent, name),
		0, NULL, NULL, NULL, true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, 256);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple row = SPI_tuptable->vals[i];
			TupleDesc tupdesc = SPI_tuptable->tupdesc;
			MemoryContext old = MemoryContextSwitchTo(row_context);
			const char *content;
			double now;
			bool isnull;
			Size len;
			Datum datum = SPI_getbinval(row, tupdesc, 1, &isnull);

			CHECK_FOR_INTERRUPTS();
			now = DatumGetInt32(SPI_getbinval(row, tupdesc, 2, &isnull));
			content = content_of(type, datum, &len);
			survey->sample_rows++;
			survey->now_bytes += now;
			survey->now_squares += now * now;
			raw_bytes += (double) len;
			if (len <= DOCUMENT_BYTES && kept + len <= SAMPLE_BYTES)
			{
				MemoryContextSwitchTo(keep);
				nbmf_documents_add(documents, content, len);
				kept += len;
			}
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_context);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(row_context);
	survey->rows = survey->sample_rows * 100 / percent;
	survey->raw_bytes = raw_bytes * 100 / percent;
}

/*
 * Add a row to the result.  sum and squares are of n documents of the sample;
 * fixed is what is there once.
 */
static void
add_rung(ReturnSetInfo *rsinfo, const char *rung, const Survey *survey, double sum, double squares,
		 double n, double fixed, double seconds, const char *command)
{
	double mean = n > 0 ? sum / n : 0;
	double variance = n > 1 ? Max(0, (squares - sum * mean) / (n - 1)) : 0;
	double seen = survey->rows > 0 ? Min(1, n / survey->rows) : 1;
	double half = n > 0 ? Z_95 * sqrt(variance / n * (1 - seen)) : 0;
	double total = mean * survey->rows + fixed;
	Datum values[9];
	bool nulls[9] = {false};

	values[0] = CStringGetTextDatum(rung);
	values[1] = Int64GetDatum((int64) rint(survey->rows));
	values[2] = Int64GetDatum((int64) rint(survey->raw_bytes));
	values[3] = Int64GetDatum((int64) rint(total));
	values[4] = Int64GetDatum((int64) rint(total - half * survey->rows));
	values[5] = Int64GetDatum((int64) rint(total + half * survey->rows));
	nulls[6] = total <= 0;
	values[6] = nulls[6] ? (Datum) 0 : Float8GetDatum(survey->raw_bytes / total);
	nulls[7] = seconds < 0;
	values[7] = Float8GetDatum(n > 0 ? seconds * survey->rows / n : 0);
	nulls[8] = command == NULL;
	values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(command);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static double
elapsed(instr_time start)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_DOUBLE(now);
}

/*
 * Add the rung of a learned model, beside the dictionary or (NULL) none, if
 * nbmf.train() would find that one pays.
 */
static void
add_neural(ReturnSetInfo *rsinfo, const Survey *survey, const NbmfDocuments *documents,
		   bytea *dictionary)
{
	bytea *model = NULL;
	NbmfDict dict = {.id = NBMF_OBJECT_MAX};
	double fixed = 0;
	NbmfModelJudgement judgement;

	PG_TRY();
	{
		if (dictionary != NULL)
		{
			dict.bytes = VARDATA_ANY(dictionary);
			dict.len = VARSIZE_ANY_EXHDR(dictionary);
			fixed = (double) dict.len;
			if (nbmf_dict_prepare_encode(&dict, L2_LEVEL) != NBMF_OK)
				nbmf_report_damage(NBMF_ERR_MEMORY, NULL);
		}
		model = nbmf_documents_best_model(documents, L2_LEVEL, dictionary != NULL ? &dict : NULL,
										  survey->raw_bytes, &judgement);
	}
	PG_FINALLY();
	{
		nbmf_dict_free(&dict);
	}
	PG_END_TRY();
	if (model == NULL || judgement.total >= judgement.without * judgement.weight)
		return;
	add_rung(rsinfo, "neural", survey, judgement.with, judgement.squares,
			 (double) judgement.judges.count, fixed + VARSIZE_ANY_EXHDR(model), judgement.seconds,
			 "UPDATE nbmf.class SET codec = 'neural' WHERE name = 'general'");
}

Datum
nbmf_estimate(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *name = NameStr(*PG_GETARG_NAME(1));
	int sample = PG_GETARG_INT32(2);
	Relation rel;
	AttrNumber column;
	Oid type;
	NbmfDocuments documents;
	Survey survey;
	const char *table;
	const char *quoted;
	const char *next;
	bytea *payload;
	double judges;
	double sum;
	double squares;
	double ratio;
	double weight;
	instr_time start;

	if (sample < 100 || sample > 1000000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("sample of %d rows is out of range", sample),
						errhint("Take between 100 and 1000000 rows.")));
	InitMaterializedSRF(fcinfo, 0);
	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table or materialized view",
							   RelationGetRelationName(rel))));
	column = nbmf_column_number(rel, name);
	type = get_atttype(RelationGetRelid(rel), column);
	if (!type_is_supported(getBaseType(type)))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of relation \"%s\" is of type %s", name,
							   RelationGetRelationName(rel), format_type_be(type)),
						errhint("Columns of type text, varchar, char, json, jsonb, bytea, real[] "
								"and nbmf can be estimated.")));

	nbmf_documents_init(&documents);
	SPI_connect();
	{
		/* what is gathered must outlive SPI's context */
		MemoryContext old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);

		nbmf_documents_init(&documents);
		survey_table(rel, column, sample, &documents, &survey);

		/* SPI has left its own context as the current one */
		MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
		table = pstrdup(nbmf_quoted_relation(RelationGetRelid(rel)));
		quoted = pstrdup(quote_identifier(name));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();

	add_rung(rsinfo, "table", &survey, 0, 0, 0, survey.table_bytes, -1, NULL);
	add_rung(rsinfo, "now", &survey, survey.now_bytes, survey.now_squares, survey.sample_rows, 0,
			 -1, NULL);
	judges = (double) documents.count[1];
	if (judges > 0)
	{
		next = nbmf_is_type(getBaseType(type))
				   ? NULL
				   : psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE nbmf", table, quoted);
		INSTR_TIME_SET_CURRENT(start);
		sum = nbmf_documents_cost(&documents, L1_LEVEL, NULL, &squares);
		add_rung(rsinfo, "zstd", &survey, sum, squares, judges, 0, elapsed(start), next);

		weight = survey.raw_bytes / Max(documents.half[1].len, 1);
		payload = nbmf_documents_train(&documents, L1_LEVEL, weight, 0, &ratio);
		if (payload != NULL)
		{
			double len = VARSIZE_ANY_EXHDR(payload);

			INSTR_TIME_SET_CURRENT(start);
			sum = nbmf_documents_cost_with(&documents, L1_LEVEL, payload, &squares);
			add_rung(rsinfo, "dictionary", &survey, sum, squares, judges, len, elapsed(start),
					 psprintf("SELECT nbmf.attach(%s, %s)", quote_literal_cstr(table),
							  quote_literal_cstr(name)));
			INSTR_TIME_SET_CURRENT(start);
			sum = nbmf_documents_cost_with(&documents, L2_LEVEL, payload, &squares);
			add_rung(rsinfo, "tightened", &survey, sum, squares, judges, len, elapsed(start),
					 psprintf("CALL nbmf.maintain(%s)", quote_literal_cstr(table)));
		}
		add_neural(rsinfo, &survey, &documents, payload);
	}
	relation_close(rel, AccessShareLock);
	return (Datum) 0;
}
