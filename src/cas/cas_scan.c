/*
 * cas_scan.c
 *		Index scans: from scan keys to a query, and from hits to tuples.
 *
 * The first call finds all hits, which are then returned in the order of the
 * heap; nothing stays locked or pinned between calls.  An entry has the whole
 * fingerprint of its heap tuple, and a TID that VACUUM has given to another tuple
 * meanwhile is invisible to an MVCC snapshot, so for what is near only other
 * snapshots (those of constraints) need a recheck.  So do equality, of which the
 * index has 96 bits, and scalar columns, of which it holds a hash.
 *
 * An ordered scan finds the nearest hits first, and goes on when they have been
 * used up (cas_nearest.c).
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/table.h"
#include "catalog/index.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cas/cas.h"
#include "type/type.h"

/* Hits whose room is kept for the next scan */
#define HITS_KEPT 100000

typedef struct CasScan
{
	MemoryContext context;       /* of everything here */
	MemoryContext query_context; /* reset by each rescan */
	bool started;
	bool nothing; /* no row can be found */
	bool whole;   /* a bitmap of all rows is asked for */
	bool ordered;
	bool any_order; /* by the distance from null */
	bool recheck;
	bool recheck_distance;
	NbmfBall order; /* simhash to order by */
	CasQuery query;
	bool has_digest; /* of what near ones are looked for */
	uint32 digest;
	int farthest;     /* no hit can be farther away */
	bool by_distance; /* and more are looked for when these have been used up: */
	CasNearest nearest;
	CasHits hits;
	int64 next;
	Datum order_value;
	bool order_null;
} CasScan;

IndexScanDesc
nbmf_cas_begin_scan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(index, nkeys, norderbys);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "nbmf_cas scan", ALLOCSET_SMALL_SIZES);
	CasScan *state = MemoryContextAllocZero(context, sizeof(CasScan));

	state->context = context;
	state->query_context = AllocSetContextCreate(context, "nbmf_cas query", ALLOCSET_SMALL_SIZES);
	nbmf_cas_hits_init(&state->hits, context);
	nbmf_cas_hits_init(&state->nearest.pool, context);
	scan->opaque = state;
	if (norderbys > 0)
	{
		scan->xs_orderbyvals = &state->order_value;
		scan->xs_orderbynulls = &state->order_null;
	}
	return scan;
}

/* What a large result took */
static void
give_back(CasHits *hits, MemoryContext context)
{
	if (hits->room <= HITS_KEPT)
		return;
	pfree(hits->hit);
	nbmf_cas_hits_init(hits, context);
}

void
nbmf_cas_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	CasScan *state = scan->opaque;

	if (keys != NULL && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
	if (orderbys != NULL && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, scan->numberOfOrderBys * sizeof(ScanKeyData));
	state->started = false;
	nbmf_cas_hits_reset(&state->hits);

	nbmf_cas_hits_reset(&state->nearest.pool);
	give_back(&state->hits, state->context);
	give_back(&state->nearest.pool, state->context);
}

/*
 * The hash of a scalar that is looked for: by its own type's function, which
 * agrees with the column's within a family.
 */
static uint32
hash_of_scalar(Relation index, ScanKey key)
{
	int column = key->sk_attno - 1;
	FmgrInfo *proc = index_getprocinfo(index, key->sk_attno, CAS_PROC_HASH);
	Oid type = key->sk_subtype;
	Datum hash;

	if (OidIsValid(type) && type != index->rd_opcintype[column])
	{
		Oid function = get_opfamily_proc(index->rd_opfamily[column], type, type, CAS_PROC_HASH);

		/* a type that is binary coercible to the column's has none of its own */
		if (OidIsValid(function))
		{
			hash = OidFunctionCall2Coll(function, index->rd_indcollation[column], key->sk_argument,
										Int64GetDatum(0));
			return (uint32) DatumGetUInt64(hash);
		}
	}
	hash =
		FunctionCall2Coll(proc, index->rd_indcollation[column], key->sk_argument, Int64GetDatum(0));
	return (uint32) DatumGetUInt64(hash);
}

static void
add_ball(CasQuery *query, uint64 simhash, int distance)
{
	NbmfBall *ball = &query->ball[query->balls++];

	ball->simhash = simhash;
	ball->distance = distance;
	/* the smallest is looked up, the others are filters */
	if (query->balls > 1 && distance < query->ball[0].distance)
	{
		NbmfBall first = query->ball[0];

		query->ball[0] = *ball;
		*ball = first;
	}
}

static const NbmfKey *
key_of_argument(Relation index, int column, Datum argument)
{
	return DatumGetNbmfKey(
		FunctionCall1(index_getprocinfo(index, column + 1, CAS_PROC_KEY), argument));
}

/*
 * Make a query of the scan keys.
 */
static void
make_query(IndexScanDesc scan, bool bitmap)
{
	CasScan *state = scan->opaque;
	Relation index = scan->indexRelation;
	CasQuery *query = &state->query;
	CasInfo info = *nbmf_cas_info(index);
	bool content = false;

	memset(query, 0, sizeof(CasQuery));
	query->over = -1;
	query->ball = palloc0(sizeof(NbmfBall) * (scan->numberOfKeys + 1));
	query->filter = palloc(sizeof(CasFilter) * (scan->numberOfKeys + 1));
	state->nothing = false;
	state->recheck = !IsMVCCSnapshot(scan->xs_snapshot);
	state->ordered = scan->numberOfOrderBys > 0;
	state->any_order = false;
	state->recheck_distance = false;
	state->has_digest = false;
	state->farthest = 64;

	for (int i = 0; i < scan->numberOfKeys; i++)
	{
		ScanKey key = &scan->keyData[i];
		int column = key->sk_attno - 1;

		if (key->sk_flags & SK_ISNULL)
		{
			/* all operators are strict; nulls are not searched for */
			state->nothing = true;
			content = true;
			continue;
		}
		if (column != info.content)
		{
			CasFilter *filter = &query->filter[query->filters++];

			filter->column = column < info.content ? column : column - 1;
			filter->hash = hash_of_scalar(index, key);
			state->recheck = true;
			continue;
		}
		content = true;
		if (key->sk_strategy == CAS_STRATEGY_EQUAL)
		{
			const NbmfKey *wanted = key_of_argument(index, column, key->sk_argument);
			uint32 digest = nbmf_cas_key_digest(wanted);

			if (query->exact && (query->simhash != wanted->simhash || query->digest != digest))
				state->nothing = true;
			query->exact = true;
			query->simhash = wanted->simhash;
			query->digest = digest;
			/* the index has a part of the digest only */
			state->recheck = true;
		}
		else if (key->sk_strategy == CAS_STRATEGY_NEAR)
		{
			const NbmfKey *wanted = key_of_argument(index, column, key->sk_argument);

			add_ball(query, wanted->simhash, NBMF_CAS_NEAR_DISTANCE);
			state->digest = nbmf_cas_key_digest(wanted);
			state->has_digest = true;
		}
		else if (key->sk_strategy == CAS_STRATEGY_BALL)
		{
			const NbmfBall *ball = DatumGetNbmfBall(key->sk_argument);

			add_ball(query, ball->simhash, ball->distance);
		}
		else
			elog(ERROR, "unexpected strategy %d of nbmf_cas", key->sk_strategy);
	}

	if (scan->numberOfOrderBys > 1)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("an nbmf_cas index cannot order by two distances")));
	if (state->ordered)
	{
		ScanKey key = &scan->orderByData[0];

		content = true;
		if (key->sk_flags & SK_ISNULL)
			state->any_order = true;
		else
			state->order.simhash = key_of_argument(index, info.content, key->sk_argument)->simhash;
		if (query->exact)
			state->recheck_distance = true;
		for (int b = 0; b < query->balls; b++)
		{
			int reach = query->ball[b].distance +
						nbmf_fingerprint_distance(query->ball[b].simhash, state->order.simhash);

			state->farthest = Min(state->farthest, reach);
		}
	}
	/*
	 * A bitmap scan may come here without a qual on the content: made of an ordered
	 * one, or for lack of a path that is not disabled (enable_seqscan = off, since
	 * PostgreSQL 18).
	 */
	state->whole = !content;
	if (!content && !bitmap)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("an nbmf_cas index finds rows by their content only"),
						errdetail("Rows with null content are not in index \"%s\".",
								  RelationGetRelationName(index))));
}

/*
 * Begin an ordered scan: what is searched is a ball around what is ordered by, which
 * holds those that are asked for.
 */
static void
begin_ordered(Relation index, CasScan *state)
{
	CasQuery query = state->query;

	query.balls++;
	query.ball = palloc(sizeof(NbmfBall) * query.balls);
	query.ball[0] = state->order;
	query.ball[0].distance = state->farthest;
	memcpy(query.ball + 1, state->query.ball, sizeof(NbmfBall) * state->query.balls);
	nbmf_cas_nearest_begin(&state->nearest, index, &query);
}

/*
 * Find all hits of a scan that is not ordered by a distance.
 */
static void
find_all(IndexScanDesc scan, CasScan *state)
{
	Relation index = scan->indexRelation;
	bool lookup = state->query.exact || state->query.balls > 0;
	instr_time start;
	instr_time end;

	INSTR_TIME_SET_CURRENT(start);
	if (!lookup)
		add_ball(&state->query, 0, 64);
	nbmf_cas_search(index, &state->query, &state->hits);
	nbmf_cas_hits_sort(&state->hits, false);
	if (!lookup || state->ordered)
		return;
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	nbmf_cas_count_scan(
		index, &state->query, &state->hits, state->has_digest ? &state->digest : NULL,
		!IsMVCCSnapshot(scan->xs_snapshot), (uint64) (INSTR_TIME_GET_DOUBLE(end) * 1e9));
}

/*
 * Find the first hits, or the next ones of an ordered scan; false if there
 * were none to be looked for.
 */
static bool
find_hits(IndexScanDesc scan, bool bitmap)
{
	CasScan *state = scan->opaque;
	Relation index = scan->indexRelation;
	MemoryContext old;
	bool more = true;

	state->next = 0;
	if (state->started && !state->by_distance)
		return false;
	if (!state->started)
		MemoryContextReset(state->query_context);
	old = MemoryContextSwitchTo(state->query_context);
	if (!state->started)
	{
		make_query(scan, bitmap);
		state->started = true;
		pgstat_count_index_scan(index);
		nbmf_cas_hits_reset(&state->hits);
		state->by_distance =
			state->ordered && !state->nothing && !state->query.exact && !state->any_order;
		if (state->by_distance)
			begin_ordered(index, state);
		else if (!state->nothing && !state->whole)
			find_all(scan, state);
	}
	if (state->by_distance)
		more = nbmf_cas_nearest_next(&state->nearest, index, &state->hits);
	MemoryContextSwitchTo(old);
	return more;
}

/*
 * amgettuple
 */
bool
nbmf_cas_get_tuple(IndexScanDesc scan, ScanDirection direction)
{
	CasScan *state = scan->opaque;
	const CasHit *hit;

	Assert(ScanDirectionIsForward(direction));
	while (!state->started || state->next >= state->hits.n)
	{
		if (!find_hits(scan, false))
			return false;
	}
	hit = &state->hits.hit[state->next++];
	scan->xs_heaptid = hit->tid;
	scan->xs_recheck = state->recheck;
	if (state->ordered)
	{
		scan->xs_recheckorderby = state->recheck_distance;
		state->order_null = state->any_order;
		state->order_value =
			Float8GetDatum(state->recheck_distance || state->any_order ? 0 : hit->distance);
	}
	return true;
}

/*
 * All pages of the table, for the executor to look at every row: the index does
 * not know those with null content.
 */
static int64
add_whole_table(Relation index, TIDBitmap *bitmap)
{
	Relation table = table_open(IndexGetRelation(RelationGetRelid(index), false), NoLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(table);

	for (BlockNumber block = 0; block < blocks; block++)
		tbm_add_page(bitmap, block);
	table_close(table, NoLock);
	return blocks;
}

/*
 * amgetbitmap
 */
int64
nbmf_cas_get_bitmap(IndexScanDesc scan, TIDBitmap *bitmap)
{
	CasScan *state = scan->opaque;

	(void) find_hits(scan, true);
	if (state->whole)
		return add_whole_table(scan->indexRelation, bitmap);
	for (int64 i = 0; i < state->hits.n; i++)
		tbm_add_tuples(bitmap, &state->hits.hit[i].tid, 1, state->recheck);
	return state->hits.n;
}

void
nbmf_cas_end_scan(IndexScanDesc scan)
{
	CasScan *state = scan->opaque;

	MemoryContextDelete(state->context);
}
