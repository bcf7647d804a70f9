/*
 * cas_handler.c
 *		What the access method nbmf_cas is: its routine, options, properties, and
 *		the check of operator classes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "utils/catcache.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "cas/cas.h"

PG_FUNCTION_INFO_V1(nbmf_cas_handler);

typedef struct CasOptions
{
	int32 vl_len_;
	double simhash_threshold;
} CasOptions;

#define DEFAULT_THRESHOLD 0.88

static relopt_kind cas_relopt_kind;

double
nbmf_cas_index_threshold(Relation index)
{
	const CasOptions *options = (const CasOptions *) index->rd_options;

	return options != NULL ? options->simhash_threshold : DEFAULT_THRESHOLD;
}

/*
 * The largest distance of what counts as a near hit in the statistics of an
 * index, and in nbmf_cas_lookup.
 */
int
nbmf_cas_index_distance(Relation index)
{
	return nbmf_cas_distance_of(nbmf_cas_index_threshold(index));
}

static bytea *
cas_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{"simhash_threshold", RELOPT_TYPE_REAL, offsetof(CasOptions, simhash_threshold)}};

	return (bytea *) build_reloptions(reloptions, validate, cas_relopt_kind, sizeof(CasOptions),
									  table, lengthof(table));
}

/*
 * Is it an index of this access method, or one of a partitioned table, whose
 * partitions have the pages?
 */
bool
nbmf_cas_is_method(Relation index)
{
	return (index->rd_rel->relkind == RELKIND_INDEX ||
			index->rd_rel->relkind == RELKIND_PARTITIONED_INDEX) &&
		   index->rd_indam != NULL && index->rd_indam->ambuild == nbmf_cas_build;
}

/*
 * Raise an error unless it is an index of this access method that has pages.
 */
void
nbmf_cas_require_index(Relation index)
{
	if (!nbmf_cas_is_method(index))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not an index of access method nbmf_cas",
							   RelationGetRelationName(index))));
	if (index->rd_rel->relkind != RELKIND_INDEX)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("index \"%s\" is partitioned", RelationGetRelationName(index)),
						errhint("Name the index of a partition.")));
}

/*
 * The operator of the content column that means "is within a ball".  The ball's
 * type is the right side of the only member with that strategy.
 */
Oid
nbmf_cas_ball_operator(Relation index, int column)
{
	CatCList *members =
		SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(index->rd_opfamily[column]));
	Oid result = InvalidOid;

	for (int i = 0; i < members->n_members; i++)
	{
		Form_pg_amop form = (Form_pg_amop) GETSTRUCT(&members->members[i]->tuple);

		if (form->amopstrategy == CAS_STRATEGY_BALL)
			result = form->amopopr;
	}
	ReleaseCatCacheList(members);
	return result;
}

static bool
cas_property(Oid index_oid, int attno, IndexAMProperty property, const char *name, bool *result,
			 bool *isnull)
{
	HeapTuple tuple;
	Oid opclass;
	Oid family;
	Oid type;

	if (property != AMPROP_DISTANCE_ORDERABLE || attno == 0)
		return false;
	opclass = get_index_column_opclass(index_oid, attno);
	if (!OidIsValid(opclass) || !get_opclass_opfamily_and_input_type(opclass, &family, &type))
	{
		*isnull = true;
		return true;
	}
	tuple = SearchSysCache4(AMPROCNUM, ObjectIdGetDatum(family), ObjectIdGetDatum(type),
							ObjectIdGetDatum(type), Int16GetDatum(CAS_PROC_KEY));
	*result = HeapTupleIsValid(tuple);
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	*isnull = false;
	return true;
}

/* One complaint about an operator class */
static bool
complain(Oid opclass, const char *what)
{
	ereport(INFO,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("operator class with OID %u of access method nbmf_cas: %s", opclass, what)));
	return false;
}

static bool
validate_operator(Oid opclass, Form_pg_amop form, bool content)
{
	Oid result = get_op_rettype(form->amopopr);

	if (form->amopstrategy < 1 || form->amopstrategy > (content ? CAS_STRATEGIES : 1))
		return complain(opclass, "an operator has an invalid strategy number");
	if (form->amopstrategy == CAS_STRATEGY_DISTANCE)
	{
		if (form->amoppurpose != AMOP_ORDER || result != FLOAT8OID)
			return complain(opclass, "the distance operator is not for ordering");
	}
	else if (form->amoppurpose != AMOP_SEARCH || result != BOOLOID)
		return complain(opclass, "an operator for searching does not return boolean");
	return true;
}

static bool
validate_procedure(Oid opclass, Form_pg_amproc form)
{
	Oid *types;
	int n;
	Oid result = get_func_signature(form->amproc, &types, &n);

	if (form->amproclefttype != form->amprocrighttype)
		return complain(opclass, "a support function is for two types");
	if (form->amprocnum == CAS_PROC_HASH)
	{
		if (n != 2 || types[1] != INT8OID || result != INT8OID)
			return complain(opclass, "the hash function is not one of (value, bigint) to bigint");
	}
	else if (form->amprocnum == CAS_PROC_KEY)
	{
		/* nbmf_key is the only fixed-size type of 32 bytes that such a function returns */
		if (n != 1 || get_typlen(result) != sizeof(NbmfKey))
			return complain(opclass, "the key function does not return nbmf_key");
	}
	else
		return complain(opclass, "a support function has an invalid number");
	return true;
}

static bool
cas_validate(Oid opclass)
{
	HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Form_pg_opclass form;
	CatCList *operators;
	CatCList *procedures;
	bool hashes = false;
	bool keys = false;
	bool equal = false;
	bool valid = true;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(form->opcfamily));
	procedures = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(form->opcfamily));

	for (int i = 0; i < procedures->n_members; i++)
	{
		Form_pg_amproc procedure = (Form_pg_amproc) GETSTRUCT(&procedures->members[i]->tuple);

		valid &= validate_procedure(opclass, procedure);
		if (procedure->amproclefttype == form->opcintype)
		{
			hashes |= procedure->amprocnum == CAS_PROC_HASH;
			keys |= procedure->amprocnum == CAS_PROC_KEY;
		}
	}
	for (int i = 0; i < operators->n_members; i++)
	{
		Form_pg_amop operator=(Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple);

		valid &= validate_operator(opclass, operator, keys);
		equal |= operator->amopstrategy == CAS_STRATEGY_EQUAL;
	}
	if (hashes == keys)
		valid = complain(opclass, "it must have either a hash function or a key function");
	if (!equal)
		valid = complain(opclass, "it has no equality operator");
	if (OidIsValid(form->opckeytype))
		valid = complain(opclass, "it must not have a storage type");

	ReleaseCatCacheList(procedures);
	ReleaseCatCacheList(operators);
	ReleaseSysCache(tuple);
	return valid;
}

Datum
nbmf_cas_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *routine = makeNode(IndexAmRoutine);

	routine->amstrategies = CAS_STRATEGIES;
	routine->amsupport = CAS_PROCS;
	routine->amcanorderbyop = true;
	routine->amcanmulticol = true;
	/* the content may be any column, and the only one that is searched */
	routine->amoptionalkey = true;
	routine->amparallelvacuumoptions =
		VACUUM_OPTION_PARALLEL_BULKDEL | VACUUM_OPTION_PARALLEL_CLEANUP;
	routine->amkeytype = InvalidOid;

	nbmf_set_parallel_build(routine);
	routine->ambuild = nbmf_cas_build;
	routine->ambuildempty = nbmf_cas_build_empty;
	routine->aminsert = nbmf_cas_insert;
	routine->ambulkdelete = nbmf_cas_bulk_delete;
	routine->amvacuumcleanup = nbmf_cas_vacuum_cleanup;
	routine->amcostestimate = nbmf_cas_cost_estimate;
	routine->amoptions = cas_options;
	routine->amproperty = cas_property;
	routine->ambuildphasename = nbmf_cas_build_phase;
	routine->amvalidate = cas_validate;
	routine->ambeginscan = nbmf_cas_begin_scan;
	routine->amrescan = nbmf_cas_rescan;
	routine->amgettuple = nbmf_cas_get_tuple;
	routine->amgetbitmap = nbmf_cas_get_bitmap;
	routine->amendscan = nbmf_cas_end_scan;
	PG_RETURN_POINTER(routine);
}

void
nbmf_cas_init(void)
{
	cas_relopt_kind = add_reloption_kind();
	/* it changes nothing in the index */
	add_real_reloption(cas_relopt_kind, "simhash_threshold",
					   "Similarity from which on what is there already is a near hit.",
					   DEFAULT_THRESHOLD, 0.5, 1.0, ShareUpdateExclusiveLock);
}
