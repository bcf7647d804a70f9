/*
 * cas_cost.c
 *		What a scan of an nbmf_cas index costs, and how many rows are near.
 *
 * A scan without a qual on the content, and an ordered one of a column that may
 * be null, cannot use the index (null contents are not in it): their cost is
 * infinite.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_statistic.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
#include "utils/syscache.h"

#include "cas/cas.h"

PG_FUNCTION_INFO_V1(nbmf_near_selectivity);
PG_FUNCTION_INFO_V1(nbmf_ball_selectivity);
PG_FUNCTION_INFO_V1(nbmf_near_join_selectivity);

/* Entries of a bucket that has been split now and then */
#define ENTRIES_PER_PAGE 400.0

/* Near duplicates that a document has, where nothing else is known */
#define EXPECTED_NEIGHBOURS 2.0

/* Distance of a ball that is not known yet; no more, so that generic plans are kept */
#define EXPECTED_DISTANCE 3

/* Index pages are few and hot: the directory, and buckets of all tables */
#define PAGE_COST_PART 0.25

/*
 * Share of uniform fingerprints within a distance of one.
 */
double
nbmf_cas_uniform_share(int distance)
{
	double term = ldexp(1, -64);
	double sum = term;

	for (int k = 1; k <= distance; k++)
	{
		term *= (double) (64 - k + 1) / k;
		sum += term;
	}
	return Min(sum, 1.0);
}

static double
share_within(int distance, double rows)
{
	double neighbours = EXPECTED_NEIGHBOURS / Max(rows, EXPECTED_NEIGHBOURS);

	return Min(nbmf_cas_uniform_share(distance) + neighbours, 1.0);
}

static double
rows_of(PlannerInfo *root, Node *clause_argument)
{
	VariableStatData variable;
	double rows = 1000;

	examine_variable(root, clause_argument, 0, &variable);
	if (variable.rel != NULL)
		rows = variable.rel->tuples;
	ReleaseVariableStats(variable);
	return rows;
}

Datum
nbmf_near_selectivity(PG_FUNCTION_ARGS)
{
	PlannerInfo *root = (PlannerInfo *) PG_GETARG_POINTER(0);
	List *args = (List *) PG_GETARG_POINTER(2);

	PG_RETURN_FLOAT8(share_within(NBMF_CAS_NEAR_DISTANCE, rows_of(root, linitial(args))));
}

Datum
nbmf_ball_selectivity(PG_FUNCTION_ARGS)
{
	PlannerInfo *root = (PlannerInfo *) PG_GETARG_POINTER(0);
	List *args = (List *) PG_GETARG_POINTER(2);
	Node *ball = estimate_expression_value(root, lsecond(args));
	int distance = EXPECTED_DISTANCE;

	if (IsA(ball, Const))
	{
		if (((Const *) ball)->constisnull)
			PG_RETURN_FLOAT8(0);
		distance = DatumGetNbmfBall(((Const *) ball)->constvalue)->distance;
	}
	PG_RETURN_FLOAT8(share_within(distance, rows_of(root, linitial(args))));
}

Datum
nbmf_near_join_selectivity(PG_FUNCTION_ARGS)
{
	PlannerInfo *root = (PlannerInfo *) PG_GETARG_POINTER(0);
	List *args = (List *) PG_GETARG_POINTER(2);
	double rows = Max(rows_of(root, linitial(args)), rows_of(root, lsecond(args)));

	PG_RETURN_FLOAT8(share_within(NBMF_CAS_NEAR_DISTANCE, rows));
}

/*
 * Is the content of no row that is looked for null?
 */
static bool
content_is_not_null(PlannerInfo *root, IndexOptInfo *index, int column)
{
	Expr *expression = NULL;
	ListCell *lc;

	if (index->indexkeys[column] != 0)
	{
		RangeTblEntry *rte = planner_rt_fetch(index->rel->relid, root);
		HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(rte->relid),
										  Int16GetDatum((int16) index->indexkeys[column]));
		bool notnull = false;

		if (HeapTupleIsValid(tuple))
		{
			notnull = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
			ReleaseSysCache(tuple);
		}
		if (notnull)
			return true;
	}
	foreach (lc, index->indextlist)
	{
		TargetEntry *entry = lfirst(lc);

		if (entry->resno == column + 1)
			expression = entry->expr;
	}
	foreach (lc, index->indpred)
	{
		NullTest *test = lfirst(lc);

		if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL &&
			equal(test->arg, expression))
			return true;
	}
	foreach (lc, index->rel->baserestrictinfo)
	{
		NullTest *test = (NullTest *) lfirst_node(RestrictInfo, lc)->clause;

		if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL &&
			equal(test->arg, expression))
			return true;
	}
	return false;
}

/* The largest distance that a clause on the content admits; -1: equality */
static int
distance_of_clause(PlannerInfo *root, IndexOptInfo *index, int column, Expr *clause)
{
	OpExpr *op = (OpExpr *) clause;
	Oid operator= InvalidOid;
	Node *argument = NULL;

	if (IsA(clause, OpExpr))
	{
		operator= op->opno;
		argument = lsecond(op->args);
	}
	else if (IsA(clause, ScalarArrayOpExpr))
		operator=((ScalarArrayOpExpr *) clause)->opno;
	switch (get_op_opfamily_strategy(operator, index->opfamily[column]))
	{
		case CAS_STRATEGY_EQUAL:
			return -1;
		case CAS_STRATEGY_BALL:
			if (argument != NULL)
			{
				argument = estimate_expression_value(root, argument);
				if (IsA(argument, Const) && !((Const *) argument)->constisnull)
					return DatumGetNbmfBall(((Const *) argument)->constvalue)->distance;
			}
			return EXPECTED_DISTANCE;
		default:
			return NBMF_CAS_NEAR_DISTANCE;
	}
}

/*
 * amcostestimate
 */
void
nbmf_cas_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup,
					   Cost *total, Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *index = path->indexinfo;
	GenericCosts costs = {0};
	int content = -1;
	int distance = 65; /* nothing on the content */
	double buckets;
	double looked_up;
	double scanned;
	double random_page_cost_here;
	ListCell *lc;

	for (int i = 0; i < index->nkeycolumns; i++)
	{
		if (OidIsValid(get_opfamily_proc(index->opfamily[i], index->opcintype[i],
										 index->opcintype[i], CAS_PROC_KEY)))
			content = i;
	}
	foreach (lc, path->indexclauses)
	{
		IndexClause *clause = lfirst_node(IndexClause, lc);
		ListCell *lc2;

		if (clause->indexcol != content)
			continue;
		foreach (lc2, clause->indexquals)
			distance = Min(distance, distance_of_clause(root, index, content,
														lfirst_node(RestrictInfo, lc2)->clause));
	}

	/* the rows that come out are those that all clauses admit */
	genericcostestimate(root, path, loop_count, &costs);
	*correlation = 0;
	*selectivity = costs.indexSelectivity;
	*pages = costs.numIndexPages;
	if ((distance == 65 && path->indexorderbys == NIL) || list_length(path->indexorderbys) > 1 ||
		(distance == 65 && !content_is_not_null(root, index, content)))
	{
		*startup = *total = get_float8_infinity();
		nbmf_disable_index_path(path);
		return;
	}

	buckets = Max(index->tuples / ENTRIES_PER_PAGE, 1);
	if (distance < 0)
	{
		looked_up = 1;
		scanned = ENTRIES_PER_PAGE;
	}
	else if (distance <= 64)
	{
		looked_up = nbmf_cas_plan_pages(distance, buckets);
		scanned = looked_up * ENTRIES_PER_PAGE;
	}
	else
	{
		/* the first radii; all of a table, when all rows are wanted */
		looked_up = nbmf_cas_plan_pages(NBMF_CAS_NEAR_DISTANCE, buckets);
		scanned = looked_up * ENTRIES_PER_PAGE;
	}
	get_tablespace_page_costs(index->reltablespace, &random_page_cost_here, NULL);
	/* comparing fingerprints is a few instructions each */
	*startup = costs.indexStartupCost + 10 * cpu_operator_cost +
			   (1 + looked_up) * random_page_cost_here * PAGE_COST_PART +
			   scanned * cpu_operator_cost * 0.05;
	*total = *startup + costs.numIndexTuples * cpu_index_tuple_cost;
	if (distance == 65)
		*total += buckets * seq_page_cost + index->tuples * cpu_operator_cost * 0.05;
	*pages = looked_up;
}
