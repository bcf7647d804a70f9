/*
 * cas_count.c
 *		What the statistics of an index count: how lookups in it end.
 *
 * Scans, checks of constraints and inserts know fingerprints, so what is near
 * counts as unverified.  nbmf_put and nbmf_cas_lookup compare contents: they say
 * for which content they look, and the index counts nothing of what is done for
 * it on the way; at the end they count one lookup, by what the contents were.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/partition.h"
#include "nodes/pg_list.h"

#include "cas/cas.h"
#include "stats/stats.h"

/* What this backend has inserted last */
static Oid inserted_index = InvalidOid;
static ItemPointerData inserted_tid;

/* The lookups that compare contents and have not ended, the innermost first */
static CasVerifier *verifiers = NULL;

/*
 * Begin a lookup that compares contents.  The caller must end it, also on error.
 */
void
nbmf_cas_verify_begin(CasVerifier *verifier, Relation index, const NbmfKey *key)
{
	memset(verifier, 0, sizeof(CasVerifier));
	verifier->index = RelationGetRelid(index);
	verifier->simhash = key->simhash;
	verifier->distance = nbmf_cas_index_distance(index);
	verifier->threshold = nbmf_cas_index_threshold(index);
	verifier->outer = verifiers;
	verifiers = verifier;
}

void
nbmf_cas_verify_end(CasVerifier *verifier)
{
	verifiers = verifier->outer;
}

/*
 * The lookup looks once more: what it found before does not count.
 */
void
nbmf_cas_verify_again(CasVerifier *verifier)
{
	verifier->exact = verifier->near = verifier->unverified = false;
	verifier->divergent = 0;
}

/*
 * A row has been found, with its content (or, of a key, not) compared.
 */
void
nbmf_cas_verify_found(CasVerifier *verifier, bool compared, bool exact, int distance,
					  double similarity)
{
	if (exact)
		verifier->exact = true;
	else if (!compared)
		verifier->unverified |= distance <= verifier->distance;
	else if (similarity >= verifier->threshold)
		verifier->near = true;
	else if (distance <= verifier->distance)
		verifier->divergent++;
}

/*
 * Count the lookup by what was found.
 */
void
nbmf_cas_verify_count(const CasVerifier *verifier)
{
	NbmfCasCounter outcome = NBMF_CAS_MISS;

	if (verifier->exact)
		outcome = NBMF_CAS_EXACT;
	else if (verifier->near)
		outcome = NBMF_CAS_NEAR;
	else if (verifier->unverified)
		outcome = NBMF_CAS_UNVERIFIED;
	nbmf_cas_stats_lookup(verifier->index, outcome, verifier->ns);
	if (verifier->divergent > 0)
		nbmf_cas_stats_count(verifier->index, NBMF_CAS_DIVERGENCE, verifier->divergent);
}

/*
 * The lookup on whose way something is done for a fingerprint; NULL if there is
 * none.  One through a partitioned table is in its index; what is done for it is in
 * those of partitions.
 */
static CasVerifier *
verifier_of(Relation index, uint64 simhash)
{
	List *ancestors = NIL;
	CasVerifier *verifier;

	for (verifier = verifiers; verifier != NULL; verifier = verifier->outer)
	{
		if (verifier->simhash != simhash)
			continue;
		if (verifier->index == RelationGetRelid(index))
			break;
		if (ancestors == NIL && index->rd_rel->relispartition)
			ancestors = get_partition_ancestors(RelationGetRelid(index));
		if (list_member_oid(ancestors, verifier->index))
			break;
	}
	list_free(ancestors);
	return verifier;
}

/*
 * Count an insert, in which a row with the same content was found or not.  Where
 * there is an exclusion constraint, its check is what is counted.
 */
void
nbmf_cas_count_insert(Relation index, const CasRow *row, bool found)
{
	if (!index->rd_index->indisexclusion && verifier_of(index, row->simhash) == NULL)
		nbmf_cas_stats_lookup(RelationGetRelid(index), found ? NBMF_CAS_EXACT : NBMF_CAS_MISS, 0);
	inserted_index = RelationGetRelid(index);
	inserted_tid = row->tid;
}

/*
 * Are there entries with the content that near ones were looked for of, more than
 * so many?
 */
static bool
has_content(Relation index, const CasQuery *query, uint32 digest, int64 n)
{
	CasQuery exact = {.exact = true,
					  .over = -1,
					  .filters = query->filters,
					  .filter = query->filter,
					  .simhash = query->ball[0].simhash,
					  .digest = digest};
	CasHits hits;
	bool result;

	nbmf_cas_hits_init(&hits, CurrentMemoryContext);
	nbmf_cas_search(index, &exact, &hits);
	result = hits.n > n;
	if (hits.hit != NULL)
		pfree(hits.hit);
	return result;
}

/*
 * Count a scan with a qual on the content that is not ordered, by its hits; digest:
 * of what near ones were looked for, NULL if it is not known.
 *
 * The check of a constraint runs in two ways: before an insert (ON CONFLICT),
 * and after it, when it finds the row itself.  Both for one row count once.
 */
void
nbmf_cas_count_scan(Relation index, const CasQuery *query, const CasHits *hits,
					const uint32 *digest, bool constraint, uint64 ns)
{
	static Oid looked_before = InvalidOid;
	Oid oid = RelationGetRelid(index);
	CasVerifier *verifier =
		verifier_of(index, query->exact ? query->simhash : query->ball[0].simhash);
	int64 others = hits->n;
	int nearest = 0;
	NbmfCasCounter outcome = NBMF_CAS_MISS;

	if (verifier != NULL)
	{
		verifier->ns += ns;
		return;
	}
	if (constraint)
	{
		bool itself = false;

		for (int64 i = 0; inserted_index == oid && i < hits->n && !itself; i++)
			itself = ItemPointerEquals((ItemPointer) &hits->hit[i].tid, &inserted_tid);
		if (itself)
		{
			bool counted = looked_before == oid;

			looked_before = InvalidOid;
			if (counted)
				return;
			others--;
		}
		else
			looked_before = others == 0 ? oid : InvalidOid;
	}

	/* the row itself is at distance 0 */
	while (nearest < 64 && hits->count[nearest] == (nearest == 0 ? hits->n - others : 0))
		nearest++;
	if (others > 0 && query->exact)
		outcome = NBMF_CAS_EXACT;
	else if (others > 0 && nearest <= nbmf_cas_index_distance(index))
	{
		outcome = NBMF_CAS_UNVERIFIED;
		if (digest != NULL && nearest == 0 && has_content(index, query, *digest, hits->n - others))
			outcome = NBMF_CAS_EXACT;
	}
	nbmf_cas_stats_lookup(oid, outcome, ns);
}
