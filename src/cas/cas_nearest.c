/*
 * cas_nearest.c
 *		The nearest entries first: the order of an ordered scan.
 *
 * Tables are searched from radius to radius, one table by one more bit at a time,
 * the cheapest first; so nothing is read twice, and no more than what is asked for.
 * When they have been searched up to r_0 .. r_3, all within d = sum (r_i + 1) - 1
 * have been found (see cas_search.c), and of what is farther away most: an entry
 * at d + 1 is missed only if it differs in just r_i + 1 bits of each chunk i.  As
 * there is nothing nearer, what has been found at d + 1 can be given out, too.
 *
 * Where that would read more than a pass over a table, the pass finds the rest.
 */
#include "postgres.h"

#include "cas/cas.h"

/* Hits that are kept up to the first pass, about; in each next one 16 times as many */
#define FIRST_LIMIT 256

/* Hits that are wanted, as a rule: a pass is put off as long as that may find so many */
#define EXPECTED_HITS 10

/* Part of a pass that is spent before it on the chance that there is something near */
#define CHANCE 0.25

/* The distance within which so many hits are expected of random fingerprints */
static int
reach_of(double entries, double hits)
{
	int distance = 0;

	while (distance < 64 && nbmf_cas_uniform_share(distance) * entries < hits)
		distance++;
	return distance;
}

/* The distance within which all has been found */
static int
complete(const int *done)
{
	int sum = -1;

	for (int t = 0; t < CAS_TABLES; t++)
		sum += done[t] + 1;
	return sum;
}

/* The table whose next radius costs the least, and what; -1 if there is none left */
static int
next_ring(const CasRingPlan *plan, const int *done, double *cost)
{
	int table = -1;

	for (int t = 0; t < CAS_TABLES; t++)
	{
		double pages;

		if (done[t] == CAS_MAX_RADIUS)
			continue;
		pages = plan->cost[t][done[t] + 2] - plan->cost[t][done[t] + 1];
		if (table < 0 || pages < *cost)
		{
			table = t;
			*cost = pages;
		}
	}
	return table;
}

/*
 * Begin to look for what is nearest to the center of the query's first ball.
 */
void
nbmf_cas_nearest_begin(CasNearest *nearest, Relation index, const CasQuery *query)
{
	CasHits pool = nearest->pool;
	int done[CAS_TABLES] = {-1, -1, -1, -1};
	double pages = 0;
	double cost;
	int reach;
	int table = 0;

	memset(nearest, 0, sizeof(CasNearest));
	nearest->query = *query;
	nearest->finished = -1;
	nearest->pool = pool;
	memcpy(nearest->done, done, sizeof(done));
	nbmf_cas_plan_rings(index, query->ball[0].simhash, &nearest->plan);

	/* do not keep what is too far away to be wanted */
	nbmf_cas_hits_reset(&nearest->pool);
	nearest->pool.limit = FIRST_LIMIT;
	nearest->pool.cutoff = reach_of(nearest->plan.entries, FIRST_LIMIT / 2) + 1;

	reach = Min(reach_of(nearest->plan.entries, EXPECTED_HITS) - 1, query->ball[0].distance);
	while (complete(done) < reach && (table = next_ring(&nearest->plan, done, &cost)) >= 0)
	{
		pages += cost;
		done[table]++;
	}
	nearest->budget = nearest->plan.pass * (table >= 0 && pages <= nearest->plan.pass ? 1 : CHANCE);
}

/*
 * Search on; the hits that come next, in their order (there may be none).  False:
 * all have been given out.
 */
bool
nbmf_cas_nearest_next(CasNearest *nearest, Relation index, CasHits *hits)
{
	CasHits *pool = &nearest->pool;
	int farthest = nearest->query.ball[0].distance;
	int distance;

	nbmf_cas_hits_reset(hits);
	if (nearest->finished >= farthest)
		return false;
	if (!nearest->passing)
	{
		double cost;
		int table = next_ring(&nearest->plan, nearest->done, &cost);

		distance = complete(nearest->done) + 1;
		if (table >= 0 && nearest->spent + cost <= nearest->budget && distance < pool->cutoff)
		{
			nbmf_cas_search_ring(index, &nearest->query, pool, nearest->done, table);
			nearest->done[table]++;
			nearest->spent += cost;
			/* the pool keeps the nearest that it has, and has none that is nearer */
			Assert(distance < pool->cutoff);
			nearest->finished = distance;
			nbmf_cas_hits_take(pool, Min(distance + 1, pool->cutoff - 1), hits);
			return true;
		}
	}

	distance = pool->cutoff;
	if (nearest->passing)
	{
		/* all that it keeps has been given out; what is next is what it dropped */
		for (int t = 0; t < CAS_TABLES; t++)
			nearest->done[t] = -1;
		nearest->query.over = nearest->finished;
		pool->limit *= 16;
	}
	nearest->passing = true;
	pool->cutoff = 65;
	nbmf_cas_search_rest(index, &nearest->query, pool, nearest->done, distance);
	nearest->finished = Min(farthest, pool->cutoff - 1);
	nbmf_cas_hits_take(pool, nearest->finished, hits);
	return true;
}
