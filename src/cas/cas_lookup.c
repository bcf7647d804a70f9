/*
 * cas_lookup.c
 *		nbmf_cas_lookup: what is near a value, with its content compared.
 *
 * A scan of the index with the active snapshot, whose rows are read and whose
 * contents are compared with the value's.  It counts as one lookup, by content.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "cas/cas.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_cas_lookup);

typedef struct Candidate
{
	ItemPointerData tid;
	int distance;
	double similarity;
	bool exact;
} Candidate;

/*
 * May the caller read the content, all rows of it?  Raises an error if not.
 */
static void
check_access(Relation heap, Relation index, int content)
{
	Oid relid = RelationGetRelid(heap);
	AttrNumber attnum = index->rd_index->indkey.values[content];

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		(attnum == 0 ||
		 pg_attribute_aclcheck(relid, attnum, GetUserId(), ACL_SELECT) != ACLCHECK_OK))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(heap));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot look up values of table \"%s\" under row-level security",
							   RelationGetRelationName(heap)),
						errhint("Query the table with ~= or <@ instead.")));
}

static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	if (x->distance != y->distance)
		return x->distance - y->distance;
	if (x->similarity != y->similarity)
		return x->similarity > y->similarity ? -1 : 1;
	return ItemPointerCompare((ItemPointer) &x->tid, (ItemPointer) &y->tid);
}

/*
 * Compare a row's content, or key, with a value of which key, frame and content
 * are given; of a key, only its digest says something about the content.
 */
void
nbmf_cas_compare(Datum found, bool is_key, const NbmfKey *key, const NbmfFrame *frame,
				 const char *content, int *distance, double *similarity, bool *exact)
{
	NbmfKey other;

	if (is_key)
		other = *DatumGetNbmfKey(found);
	else
		nbmf_cas_key_of(found, &other);
	*distance = nbmf_fingerprint_distance(key->simhash, other.simhash);
	*exact = memcmp(key->digest, other.digest, sizeof(other.digest)) == 0;
	*similarity = *exact ? 1 : 1 - *distance / 64.0;
	if (!is_key && !*exact)
	{
		NbmfFrame other_frame;
		char *other_content = nbmf_value_decode(DatumGetNbmfPP(found), 0, &other_frame);

		/* contents of other kinds have nothing in common */
		*similarity = frame->kind == other_frame.kind
						  ? nbmf_similarity(frame->kind, content, frame->raw_len, other_content,
											other_frame.raw_len)
						  : 0;
		pfree(other_content);
	}
}

/*
 * nbmf_cas_lookup(index, value [, threshold])
 */
Datum
nbmf_cas_lookup(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid index_oid;
	Oid heap_oid;
	Relation heap = NULL;
	Relation index;
	CasInfo info;
	IndexInfo *index_info;
	EState *estate;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	ScanKeyData scan_key;
	NbmfKey key;
	NbmfBall ball = {0};
	NbmfFrame frame;
	MemoryContext context;
	Candidate *candidates;
	int n = 0;
	int room = 64;
	CasVerifier verifier;
	char *content;
	bool is_key;
	Oid type;
	Oid operator;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	index_oid = PG_GETARG_OID(0);
	heap_oid = IndexGetRelation(index_oid, true);
	if (OidIsValid(heap_oid))
		heap = table_open(heap_oid, AccessShareLock);
	index = relation_open(index_oid, AccessShareLock);
	nbmf_cas_require_index(index);
	info = *nbmf_cas_info(index);
	check_access(heap, index, info.content);
	if (!index->rd_index->indisvalid)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("index \"%s\" is not valid", RelationGetRelationName(index))));

	nbmf_cas_key_of(PG_GETARG_DATUM(1), &key);
	content = nbmf_value_decode(PG_GETARG_NBMF_PP(1), 0, &frame);
	ball.simhash = key.simhash;
	ball.distance = PG_ARGISNULL(2) ? nbmf_cas_index_distance(index)
									: nbmf_cas_distance_of(PG_GETARG_FLOAT8(2));

	type = index->rd_opcintype[info.content];
	is_key = get_typlen(type) == sizeof(NbmfKey);
	operator= nbmf_cas_ball_operator(index, info.content);
	ScanKeyEntryInitialize(&scan_key, 0, (AttrNumber) (info.content + 1), CAS_STRATEGY_BALL,
						   InvalidOid, InvalidOid, get_opcode(operator), PointerGetDatum(&ball));

	index_info = BuildIndexInfo(index);
	estate = CreateExecutorState();
	slot = table_slot_create(heap, NULL);
	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf_cas_lookup row", ALLOCSET_DEFAULT_SIZES);
	candidates = palloc(sizeof(Candidate) * room);

	scan = nbmf_index_beginscan(heap, index, GetActiveSnapshot(), 1, 0);
	index_rescan(scan, &scan_key, 1, NULL, 0);
	nbmf_cas_verify_begin(&verifier, index, &key);
	PG_TRY();
	{
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
		{
			MemoryContext old;
			Datum values[INDEX_MAX_KEYS];
			bool isnull[INDEX_MAX_KEYS];

			CHECK_FOR_INTERRUPTS();
			if (n >= room)
			{
				room *= 2;
				candidates = repalloc_huge(candidates, sizeof(Candidate) * room);
			}
			ResetPerTupleExprContext(estate);
			old = MemoryContextSwitchTo(context);
			FormIndexDatum(index_info, slot, estate, values, isnull);
			if (!isnull[info.content])
			{
				candidates[n].tid = slot->tts_tid;
				nbmf_cas_compare(values[info.content], is_key, &key, &frame, content,
								 &candidates[n].distance, &candidates[n].similarity,
								 &candidates[n].exact);
				nbmf_cas_verify_found(&verifier, !is_key, candidates[n].exact,
									  candidates[n].distance, candidates[n].similarity);
				n++;
			}
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
		}
	}
	PG_FINALLY();
	{
		nbmf_cas_verify_end(&verifier);
	}
	PG_END_TRY();
	index_endscan(scan);
	nbmf_cas_verify_count(&verifier);

	qsort(candidates, n, sizeof(Candidate), compare_candidates);
	for (int i = 0; i < n; i++)
	{
		Datum values[4];
		bool nulls[4] = {0};

		values[0] = PointerGetDatum(&candidates[i].tid);
		values[1] = Int32GetDatum(candidates[i].distance);
		values[2] = Float8GetDatum(candidates[i].similarity);
		values[3] = BoolGetDatum(candidates[i].exact);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	MemoryContextDelete(context);
	relation_close(index, AccessShareLock);
	table_close(heap, AccessShareLock);
	return (Datum) 0;
}
