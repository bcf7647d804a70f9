/*
 * cas_search.c
 *		Finding all entries with a fingerprint and a part of the digest, or within a
 *		distance of a fingerprint.
 *
 * Fingerprints at distance d or less: with radii r_0 .. r_3 for the four
 * chunks, and sum (r_i + 1) > d, each of them is within r_i of the query in at
 * least one chunk i (else it would differ in sum (r_i + 1) bits or more).  So
 * it is enough to look, in each table, at the values within r_i.  A hit counts
 * in the first table whose radius admits it, and so once.  A radius of -1
 * leaves a table out.
 *
 * Which radii: those that read the fewest pages, given how many buckets the
 * tables have and which of their chains are long; or, if that is less, one
 * pass over all buckets of a table.
 *
 * Concurrent splits: an entry's place never changes, and the bucket that is
 * responsible for a place holds all entries with it at any time.  Places are
 * visited in ascending order, each once, with all others that the bucket was
 * responsible for when it was read.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "cas/cas.h"

/* Radii that are planned with; beyond, one pass over a table costs less */
#define MAX_RADIUS 4

/* A page that a pass reads, in units of a page that is looked up */
#define PASS_COST 1.0

/* A rung of an ordered scan is worth so much of what may follow it */
#define RUNG_PART 0.1

/*
 * What may follow it goes as far as so many hits are to be expected, if
 * fingerprints are random; about so many entries are in a bucket.
 */
#define EXPECTED_HITS  24
#define BUCKET_ENTRIES 400.0

#define CHUNK_BITS     16

/* Values that are looked for one by one in a page; for more it is read as a whole */
#define SORTED_VALUES 8

/* The table that a pass reads: one whose entries are small */
#define PASS_TABLE (CAS_TABLES - 1)

/* Values within MAX_RADIUS of a value: sum of C(16, k), k <= 4 */
#define MAX_PROBES 2517

/* Which fingerprints are within a distance, as this processor finds it out */
static NbmfMatch match = NULL;

static inline int
distance_of(uint64 a, uint64 b)
{
	return nbmf_fingerprint_distance(a, b);
}

/*
 * Hits
 */

void
nbmf_cas_hits_init(CasHits *hits, MemoryContext context)
{
	memset(hits, 0, sizeof(CasHits));
	hits->context = context;
	hits->cutoff = 65;
}

void
nbmf_cas_hits_reset(CasHits *hits)
{
	hits->n = 0;
	hits->cutoff = 65;
	memset(hits->count, 0, sizeof(hits->count));
}

/*
 * Drop the farthest hits, as long as half of the limit stays.
 */
static void
hits_cut(CasHits *hits)
{
	int64 sum = 0;
	int64 kept = 0;
	int cutoff = 0;

	while (cutoff < 65 && sum + hits->count[cutoff] <= hits->limit / 2)
		sum += hits->count[cutoff++];
	/* at least the nearest ones */
	cutoff++;
	if (cutoff >= hits->cutoff)
		return;
	for (int64 i = 0; i < hits->n; i++)
	{
		if (hits->hit[i].distance < cutoff)
			hits->hit[kept++] = hits->hit[i];
	}
	for (int d = cutoff; d < 65; d++)
		hits->count[d] = 0;
	hits->n = kept;
	hits->cutoff = cutoff;
}

static void
hits_add(CasHits *hits, const char *payload, int distance)
{
	CasHit *hit;

	if (distance >= hits->cutoff)
		return;
	if (hits->n >= hits->room)
	{
		if (hits->limit > 0 && hits->n >= hits->limit)
			hits_cut(hits);
		if (hits->n >= hits->room)
		{
			int64 room = Max(64, hits->room * 2);

			if (hits->hit == NULL)
				hits->hit = MemoryContextAllocHuge(hits->context, room * sizeof(CasHit));
			else
				hits->hit = repalloc_huge(hits->hit, room * sizeof(CasHit));
			hits->room = room;
		}
		if (distance >= hits->cutoff)
			return;
	}
	hit = &hits->hit[hits->n++];
	memcpy(&hit->tid, payload, CAS_TID_SIZE);
	hit->distance = (uint16) distance;
	hits->count[distance]++;
}

/* TIDs in the order of the heap */
static inline uint64
tid_order(const CasHit *hit)
{
	return (uint64) ItemPointerGetBlockNumberNoCheck(&hit->tid) << 16 |
		   ItemPointerGetOffsetNumberNoCheck(&hit->tid);
}

static int
compare_tid(const void *a, const void *b)
{
	uint64 x = tid_order(a);
	uint64 y = tid_order(b);

	return x < y ? -1 : x > y;
}

static int
compare_distance(const void *a, const void *b)
{
	int x = ((const CasHit *) a)->distance;
	int y = ((const CasHit *) b)->distance;

	return x != y ? x - y : compare_tid(a, b);
}

/*
 * Put hits in the order of the heap, or nearest first, and each of them once:
 * the tables are not read at one instant.
 */
void
nbmf_cas_hits_sort(CasHits *hits, bool by_distance)
{
	int64 kept = 0;

	if (hits->n < 2)
		return;
	qsort(hits->hit, hits->n, sizeof(CasHit), by_distance ? compare_distance : compare_tid);
	for (int64 i = 0; i < hits->n; i++)
	{
		if (kept == 0 || compare_tid(&hits->hit[kept - 1], &hits->hit[i]) != 0)
			hits->hit[kept++] = hits->hit[i];
	}
	hits->n = kept;
}

/*
 * Planning
 */

/* Pages with values within a radius of one, in a table of so many buckets */
static double
pages_within(int radius, double buckets)
{
	/* neighbours that differ in a low bit are in the same bucket */
	double bits = Min(log2(Max(buckets, 1)), CHUNK_BITS);
	double term = 1;
	double sum = 1;

	for (int k = 1; k <= radius; k++)
	{
		term *= Max(bits - k + 1, 0) / k;
		sum += term;
	}
	return radius < 0 ? 0 : Min(sum, buckets);
}

/*
 * The radii with the least cost[table][radius + 1]; the cost.
 */
static double
choose_radii(int distance, double cost[CAS_TABLES][MAX_RADIUS + 2], int *radius)
{
	double best[CAS_TABLES + 1][CAS_TABLES * (MAX_RADIUS + 1) + 1];
	int choice[CAS_TABLES + 1][CAS_TABLES * (MAX_RADIUS + 1) + 1];
	int most = CAS_TABLES * (MAX_RADIUS + 1);
	int at = -1;

	for (int sum = 0; sum <= most; sum++)
		best[0][sum] = sum == 0 ? 0 : get_float8_infinity();
	for (int t = 0; t < CAS_TABLES; t++)
	{
		for (int sum = 0; sum <= most; sum++)
		{
			best[t + 1][sum] = get_float8_infinity();
			choice[t + 1][sum] = 0;
			for (int r = 0; r <= MAX_RADIUS + 1 && r <= sum; r++)
			{
				double c = best[t][sum - r] + cost[t][r];

				if (c < best[t + 1][sum])
				{
					best[t + 1][sum] = c;
					choice[t + 1][sum] = r;
				}
			}
		}
	}
	for (int sum = distance + 1; sum <= most; sum++)
	{
		if (at < 0 || best[CAS_TABLES][sum] < best[CAS_TABLES][at])
			at = sum;
	}
	if (at < 0)
		return get_float8_infinity();
	for (int t = CAS_TABLES, sum = at; t > 0; t--)
	{
		if (radius != NULL)
			radius[t - 1] = choice[t][sum] - 1;
		sum -= choice[t][sum];
	}
	return best[CAS_TABLES][at];
}

/* The last plan for a distance, of tables without values that have many pages: for any query */
typedef struct LastPlan
{
	bool valid;
	uint32 buckets[CAS_TABLES];
	CasPlan plan;
} LastPlan;

static bool
plan_applies(const LastPlan *last, const CasRoot *const *roots)
{
	if (!last->valid)
		return false;
	for (int t = 0; t < CAS_TABLES; t++)
	{
		if (last->buckets[t] != roots[t]->buckets || roots[t]->heavies > 0)
			return false;
	}
	return true;
}

void
nbmf_cas_plan(int distance, uint16 const *chunks, const CasRoot *const *roots, CasPlan *plan)
{
	static LastPlan lasts[65];
	LastPlan *last = &lasts[distance];
	double cost[CAS_TABLES][MAX_RADIUS + 2];
	double pass = 0;

	if (plan_applies(last, roots))
	{
		*plan = last->plan;
		return;
	}
	last->valid = true;
	for (int t = 0; t < CAS_TABLES; t++)
	{
		double all = roots[t]->buckets;

		last->buckets[t] = roots[t]->buckets;
		last->valid &= roots[t]->heavies == 0;
		for (int r = -1; r <= MAX_RADIUS; r++)
			cost[t][r + 1] = pages_within(r, roots[t]->buckets);
		for (uint32 i = 0; i < roots[t]->heavies; i++)
		{
			const CasHeavy *heavy = &roots[t]->heavy[i];
			int from = __builtin_popcount(heavy->value ^ chunks[t]);

			/* the first table's are buckets, and counted */
			if (t != CAS_TABLE_DIGEST)
				all += heavy->pages;
			for (int r = from; r <= MAX_RADIUS; r++)
				cost[t][r + 1] += heavy->pages;
		}
		if (t == PASS_TABLE)
			pass = all;
	}
	plan->pages = choose_radii(distance, cost, plan->radius);
	plan->pass = pass;
	plan->flat = pass * PASS_COST <= plan->pages;
	last->plan = *plan;
}

/*
 * Pages that a query reads in tables of so many buckets without long chains;
 * for the planner.
 */
double
nbmf_cas_plan_pages(int distance, double buckets)
{
	double cost[CAS_TABLES][MAX_RADIUS + 2];
	double pages;

	for (int t = 0; t < CAS_TABLES; t++)
	{
		for (int r = -1; r <= MAX_RADIUS; r++)
			cost[t][r + 1] = pages_within(r, buckets);
	}
	pages = choose_radii(distance, cost, NULL);
	return Min(pages, Max(buckets, 1) * PASS_COST);
}

/*
 * Searching
 */

typedef struct Search
{
	Relation index;
	const CasQuery *query;
	CasHits *hits;
	int table;
	int scalars;
	Size payload_size;
	const int *radius; /* NULL: a pass */
	BlockNumber block; /* page that is searched */
	const char *ahead; /* keys that come next, if that is known */
	int distance;
} Search;

static inline bool
filters_admit(const Search *search, const char *payload)
{
	const char *hashes = payload + search->payload_size - search->scalars * sizeof(uint32);

	for (int i = 0; i < search->query->filters; i++)
	{
		uint32 hash;

		memcpy(&hash, hashes + search->query->filter[i].column * sizeof(uint32), sizeof(hash));
		if (hash != search->query->filter[i].hash)
			return false;
	}
	return true;
}

static void
add_hit(const Search *search, const char *payload, int distance)
{
	ItemPointerData tid;

	memcpy(&tid, payload, sizeof(tid));
	if (ItemPointerGetOffsetNumberNoCheck(&tid) == InvalidOffsetNumber ||
		ItemPointerGetOffsetNumberNoCheck(&tid) > MaxHeapTuplesPerPage)
		nbmf_cas_corrupted(search->index, search->block, "An entry has no possible TID.");
	hits_add(search->hits, payload, distance);
}

/* Is this table the first whose radius admits the difference? */
static inline bool
table_admits(const Search *search, uint64 difference)
{
	if (search->radius == NULL)
		return true;
	for (int t = 0; t < search->table; t++)
	{
		if (__builtin_popcount(nbmf_cas_route(t, difference)) <= search->radius[t])
			return false;
	}
	return __builtin_popcount(nbmf_cas_route(search->table, difference)) <=
		   search->radius[search->table];
}

/*
 * Look at entries from first to end (not included).
 */
static void
search_entries(const Search *search, Page page, int first, int end)
{
	const CasQuery *query = search->query;
	const uint64 *keys = CasPageKeys(page);
	uint16 found[BLCKSZ / sizeof(uint64) + 1];
	int matches;

	if (query->exact)
	{
		for (int i = first; i < end; i++)
		{
			const char *payload;

			if (keys[i] != query->simhash)
				continue;
			payload = nbmf_cas_payload(page, i, search->payload_size);
			if (nbmf_cas_payload_digest(payload) == query->digest && filters_admit(search, payload))
				add_hit(search, payload, 0);
		}
		return;
	}

	matches = match(keys + first, end - first, query->ball[0].simhash,
					Min(search->distance, search->hits->cutoff - 1), search->ahead, found);
	for (int m = 0; m < matches; m++)
	{
		int i = first + found[m];
		uint64 difference = keys[i] ^ query->ball[0].simhash;
		int distance = distance_of(keys[i], query->ball[0].simhash);
		const char *payload;
		bool inside = distance > query->over && table_admits(search, difference);

		for (int b = 1; inside && b < query->balls; b++)
			inside = distance_of(keys[i], query->ball[b].simhash) <= query->ball[b].distance;
		if (!inside)
			continue;
		payload = nbmf_cas_payload(page, i, search->payload_size);
		if (filters_admit(search, payload))
			add_hit(search, payload, distance);
	}
}

/*
 * Search a page for n values in ascending order; 0: for all.
 *
 * Of the entries that are sorted only those with a value need be looked at,
 * which spares most of the memory traffic, unless there are many.
 */
static void
search_page(Search *search, Buffer buffer, const uint16 *values, int n)
{
	Page page = BufferGetPage(buffer);
	const uint64 *keys = CasPageKeys(page);
	int sorted = CasPageHead(page)->sorted;

	search->block = BufferGetBlockNumber(buffer);
	if (n == 0 || n > SORTED_VALUES)
		sorted = 0;
	for (int i = 0; i < n && sorted > 0; i++)
	{
		int first = nbmf_cas_first_of_value(page, values[i]);
		int end = first;

		while (end < sorted && nbmf_cas_route(search->table, keys[end]) == values[i])
			end++;
		search_entries(search, page, first, end);
	}
	search_entries(search, page, sorted, nbmf_cas_count(page));
}

/* Times that a chain is begun again because of an interrupt */
#define RESTARTS 4

/*
 * Search the chain of a bucket, whose page is locked and is released.
 */
static void
search_chain(Search *search, Buffer buffer)
{
	BlockNumber block = BufferGetBlockNumber(buffer);
	BlockNumber pages = 0;
	int restarts = 0;

	for (;;)
	{
		BlockNumber next = CasPageHead(BufferGetPage(buffer))->next;
		Buffer next_buffer;

		if (next == InvalidBlockNumber)
			break;
		/* locking a page twice would wait for ever */
		if (next == block || next == BufferGetBlockNumber(buffer) ||
			(++pages > nbmf_cas_info(search->index)->blocks &&
			 pages > RelationGetNumberOfBlocks(search->index)))
			nbmf_cas_corrupted(search->index, next, "The chain does not end.");
		next_buffer = nbmf_cas_read_typed(search->index, next, BUFFER_LOCK_SHARE, CAS_PAGE_OVERFLOW,
										  search->table);
		UnlockReleaseBuffer(buffer);
		buffer = next_buffer;
		search_page(search, buffer, NULL, 0);
		if (unlikely(InterruptPending) && restarts < RESTARTS &&
			!nbmf_cas_pause(search->index, buffer))
		{
			/* what is found twice counts once: see nbmf_cas_hits_sort */
			buffer = nbmf_cas_read_typed(search->index, block, BUFFER_LOCK_SHARE, CAS_PAGE_BUCKET,
										 search->table);
			pages = 0;
			restarts++;
		}
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * Search the bucket that is responsible for a place, for those of n values in
 * ascending order, from that of the place on, that it has places of; 0: for all it
 * has.  Returns the last place that it was responsible for.
 */
static uint32
search_bucket(Search *search, const uint16 *values, int n, uint32 place)
{
	Buffer buffer = nbmf_cas_lock_bucket(search->index, search->table, place, BUFFER_LOCK_SHARE);
	uint32 hi = CasPageHead(BufferGetPage(buffer))->hi;
	int here = 0;

	while (here < n && values[here] <= hi >> 16)
		here++;
	search_page(search, buffer, values, here);
	search_chain(search, buffer);
	return hi;
}

static int
compare_values(const void *a, const void *b)
{
	return (int) *(const uint16 *) a - (int) *(const uint16 *) b;
}

/*
 * Values within a radius of one, in ascending order.
 */
static int
values_within(uint16 value, int radius, uint16 *values)
{
	int n = 0;

	values[n++] = value;
	for (int bits = 1; bits <= radius; bits++)
	{
		uint32 mask = ((uint32) 1 << bits) - 1;

		while (mask < CAS_VALUES)
		{
			/* the next larger number with as many bits */
			uint32 low = mask & -mask;
			uint32 ripple = mask + low;

			values[n++] = (uint16) (value ^ mask);
			mask = ripple | (((mask ^ ripple) / low) >> 2);
		}
	}
	qsort(values, n, sizeof(uint16), compare_values);
	return n;
}

/* How many values ahead the processor fetches */
#define AHEAD 4

/* Values to be looked for in the tables that a plan says */
typedef struct Probes
{
	uint16 *values[CAS_TABLES]; /* in ascending order */
	int n[CAS_TABLES];
	int table; /* next one to be fetched */
	int at;
} Probes;

/* Have the processor fetch what the next value needs, whatever table it is of */
static void
fetch_next(Relation index, Probes *probes)
{
	while (probes->table < CAS_TABLES && probes->at >= probes->n[probes->table])
	{
		probes->table++;
		probes->at = 0;
	}
	if (probes->table < CAS_TABLES)
	{
		nbmf_cas_prefetch(index, probes->table, probes->values[probes->table][probes->at], false);
		probes->at++;
	}
}

/*
 * Search a table for values in ascending order.
 */
static void
search_values(Search *search, Probes *probes)
{
	const uint16 *values = probes->values[search->table];
	int n = probes->n[search->table];
	uint64 done = 0; /* all places before */

	for (int i = 0; i < n; i++)
	{
		fetch_next(search->index, probes);
		/* a value may have several buckets */
		while (done <= nbmf_cas_last_place(values[i]))
		{
			uint32 place = (uint32) Max(done, nbmf_cas_first_place(values[i]));

			CHECK_FOR_INTERRUPTS();
			done = (uint64) search_bucket(search, values + i, n - i, place) + 1;
		}
	}
}

/*
 * Search all buckets of a table.
 */
static void
search_table(Search *search)
{
	uint64 place = 0;
	uint64 width = 0;

	while (place < CAS_PLACES)
	{
		uint64 next;

		CHECK_FOR_INTERRUPTS();
		/* the next one is about there */
		search->ahead = NULL;
		if (place + width < CAS_PLACES)
			search->ahead = nbmf_cas_prefetch(search->index, search->table,
											  (uint16) ((place + width) >> 16), true);
		next = (uint64) search_bucket(search, NULL, 0, (uint32) place) + 1;
		width = next - place;
		place = next;
	}
}

/*
 * The distance within which enough of so many random fingerprints are.
 */
static int
reach_of(double entries)
{
	int distance = 0;

	while (distance < 64 && nbmf_cas_uniform_share(distance) * entries < EXPECTED_HITS)
		distance++;
	return distance;
}

/*
 * How far to search, of a query that may be widened: a rung that is cheap before
 * what may follow it, or that at once.
 */
static int
choose_reach(const CasQuery *query, const uint16 *chunks, const CasRoot *const *roots,
			 CasPlan *plan)
{
	int distance = query->ball[0].distance;
	int far;
	CasPlan next;

	if (query->widen <= distance)
		return distance;
	far = Min(Max(reach_of(roots[PASS_TABLE]->buckets * BUCKET_ENTRIES), distance), query->widen);
	nbmf_cas_plan(far, chunks, roots, &next);
	if (plan->pages > RUNG_PART * (next.flat ? next.pass * PASS_COST : next.pages))
	{
		*plan = next;
		distance = far;
	}
	/* a pass finds what is near, however far that is */
	return plan->flat ? query->widen : distance;
}

/*
 * Add the hits of a query.  Returns the distance within which all were found.
 */
int
nbmf_cas_search(Relation index, const CasQuery *query, CasHits *hits)
{
	int scalars = nbmf_cas_info(index)->scalars;
	Search search = {.index = index, .query = query, .hits = hits, .scalars = scalars};

	if (match == NULL)
		match = nbmf_match_function(0);

	if (query->exact)
	{
		uint16 value = nbmf_cas_route(CAS_TABLE_DIGEST, query->simhash);

		search.table = CAS_TABLE_DIGEST;
		search.payload_size = nbmf_cas_payload_size(CAS_TABLE_DIGEST, scalars);
		(void) search_bucket(&search, &value, 1,
							 nbmf_cas_place(CAS_TABLE_DIGEST, query->simhash, query->digest));
	}
	else
	{
		const CasRoot *roots[CAS_TABLES];
		uint16 chunks[CAS_TABLES];
		CasPlan plan;

		for (int t = 0; t < CAS_TABLES; t++)
		{
			roots[t] = nbmf_cas_cached_root(index, t);
			chunks[t] = nbmf_cas_route(t, query->ball[0].simhash);
		}
		nbmf_cas_plan(query->ball[0].distance, chunks, roots, &plan);
		search.table = PASS_TABLE;
		search.payload_size = nbmf_cas_payload_size(PASS_TABLE, scalars);
		search.distance = choose_reach(query, chunks, roots, &plan);
		if (plan.flat)
			search_table(&search);
		else
		{
			uint16 values[CAS_TABLES * MAX_PROBES];
			Probes probes = {.table = 0};
			int n = 0;

			search.radius = plan.radius;
			for (int t = 0; t < CAS_TABLES; t++)
			{
				probes.values[t] = values + n;
				if (plan.radius[t] >= 0)
					probes.n[t] = values_within(chunks[t], plan.radius[t], values + n);
				n += probes.n[t];
			}
			for (int i = 0; i < AHEAD; i++)
				fetch_next(index, &probes);
			for (int t = 0; t < CAS_TABLES; t++)
			{
				search.table = t;
				search.payload_size = nbmf_cas_payload_size(t, scalars);
				search_values(&search, &probes);
			}
		}
	}
	return search.distance;
}
