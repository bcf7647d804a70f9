/*
 * cas_search.c
 *		Finding all entries with a fingerprint and a part of the digest, or within a
 *		distance of a fingerprint.
 *
 * Fingerprints at distance d or less: with radii r_0 .. r_3 for the four
 * chunks, and sum (r_i + 1) > d, each of them is within r_i of the query in at
 * least one chunk i (else it would differ in sum (r_i + 1) bits or more).  So
 * it is enough to look, in each table, at the values within r_i.  A hit counts
 * where it is first met, which its own chunks tell, and so once.  A radius of -1
 * leaves a table out.  An ordered scan (cas_nearest.c) goes from radius to radius.
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

/* A page that a pass reads, in units of a page that is looked up */
#define PASS_COST  1.0

#define CHUNK_BITS 16

/* Values that are looked for one by one in a page; for more it is read as a whole */
#define SORTED_VALUES 16

/* The table that a pass reads: one whose entries are small */
#define PASS_TABLE (CAS_TABLES - 1)

/* Values within CAS_MAX_RADIUS of a value: sum of C(16, k), k <= 4 */
#define MAX_PROBES 2517

/* Values that differ in CAS_MAX_RADIUS bits from a value: C(16, 4) */
#define MAX_RING 1820

/* Entries of a bucket, about */
#define BUCKET_ENTRIES 400.0

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
set_room(CasHits *hits, int64 room)
{
	if (hits->hit == NULL)
		hits->hit = MemoryContextAllocHuge(hits->context, room * sizeof(CasHit));
	else
		hits->hit = repalloc_huge(hits->hit, room * sizeof(CasHit));
	hits->room = room;
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
			set_room(hits, Max(64, hits->room * 2));
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
 * Move the hits within a distance to others, of which there are none yet, and put
 * these in order.
 */
void
nbmf_cas_hits_take(CasHits *hits, int distance, CasHits *out)
{
	int64 n = 0;
	int64 kept = 0;

	for (int d = 0; d <= distance; d++)
	{
		n += hits->count[d];
		out->count[d] = hits->count[d];
		hits->count[d] = 0;
	}
	if (n == 0)
		return;
	if (n > out->room)
		set_room(out, n);
	for (int64 i = 0; i < hits->n; i++)
	{
		if (hits->hit[i].distance <= distance)
			out->hit[out->n++] = hits->hit[i];
		else
			hits->hit[kept++] = hits->hit[i];
	}
	hits->n = kept;
	nbmf_cas_hits_sort(out, true);
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
choose_radii(int distance, double cost[CAS_TABLES][CAS_MAX_RADIUS + 2], int *radius)
{
	double best[CAS_TABLES + 1][CAS_TABLES * (CAS_MAX_RADIUS + 1) + 1];
	int choice[CAS_TABLES + 1][CAS_TABLES * (CAS_MAX_RADIUS + 1) + 1];
	int most = CAS_TABLES * (CAS_MAX_RADIUS + 1);
	int at = -1;

	for (int sum = 0; sum <= most; sum++)
		best[0][sum] = sum == 0 ? 0 : get_float8_infinity();
	for (int t = 0; t < CAS_TABLES; t++)
	{
		for (int sum = 0; sum <= most; sum++)
		{
			best[t + 1][sum] = get_float8_infinity();
			choice[t + 1][sum] = 0;
			for (int r = 0; r <= CAS_MAX_RADIUS + 1 && r <= sum; r++)
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

/* Pages of a table up to each radius around a value, from -1 on */
static void
table_costs(int table, const CasRoot *root, uint16 value, double *cost)
{
	for (int r = -1; r <= CAS_MAX_RADIUS; r++)
		cost[r + 1] = pages_within(r, root->buckets);
	for (uint32 i = 0; i < root->heavies; i++)
	{
		const CasHeavy *heavy = &root->heavy[i];

		for (int r = __builtin_popcount(heavy->value ^ value); r <= CAS_MAX_RADIUS; r++)
			cost[r + 1] += heavy->pages;
	}
}

/* What a pass over the table with this root costs; its chains are not in its buckets */
static double
pass_cost(const CasRoot *root)
{
	double pages = root->buckets;

	for (uint32 i = 0; i < root->heavies; i++)
		pages += root->heavy[i].pages;
	return pages * PASS_COST;
}

void
nbmf_cas_plan(int distance, uint16 const *chunks, const CasRoot *const *roots, CasPlan *plan)
{
	static LastPlan lasts[65];
	LastPlan *last = &lasts[distance];
	double cost[CAS_TABLES][CAS_MAX_RADIUS + 2];

	if (plan_applies(last, roots))
	{
		*plan = last->plan;
		return;
	}
	last->valid = true;
	for (int t = 0; t < CAS_TABLES; t++)
	{
		last->buckets[t] = roots[t]->buckets;
		last->valid &= roots[t]->heavies == 0;
		table_costs(t, roots[t], chunks[t], cost[t]);
	}
	plan->pages = choose_radii(distance, cost, plan->radius);
	plan->flat = pass_cost(roots[PASS_TABLE]) <= plan->pages;
	last->plan = *plan;
}

/*
 * The same for an ordered scan, which goes from radius to radius: what each table
 * costs up to each, and a pass.
 */
void
nbmf_cas_plan_rings(Relation index, uint64 simhash, CasRingPlan *plan)
{
	for (int t = 0; t < CAS_TABLES; t++)
		table_costs(t, nbmf_cas_cached_root(index, t), nbmf_cas_route(t, simhash), plan->cost[t]);
	plan->pass = pass_cost(nbmf_cas_cached_root(index, PASS_TABLE));
	plan->entries = nbmf_cas_cached_root(index, PASS_TABLE)->buckets * BUCKET_ENTRIES;
}

/*
 * Pages that a query reads in tables of so many buckets without long chains;
 * for the planner.
 */
double
nbmf_cas_plan_pages(int distance, double buckets)
{
	double cost[CAS_TABLES][CAS_MAX_RADIUS + 2];
	double pages;

	for (int t = 0; t < CAS_TABLES; t++)
	{
		for (int r = -1; r <= CAS_MAX_RADIUS; r++)
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
	int done[CAS_TABLES];  /* radii up to which tables have been searched */
	int radius;            /* up to which this one is; CHUNK_BITS: a pass */
	int dropped;           /* what has been found at this distance and beyond was dropped */
	BlockNumber block;     /* page that is searched */
	const char *ahead;     /* keys that come next, if that is known */
	struct Probes *probes; /* values that are looked for; NULL: a pass */
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

/* Is an entry new: has no table been searched up to its radius there before? */
static inline bool
is_new(const Search *search, uint64 difference, int distance)
{
	if (__builtin_popcount(nbmf_cas_route(search->table, difference)) > search->radius)
		return false;
	if (distance >= search->dropped)
		return true;
	for (int t = 0; t < CAS_TABLES; t++)
	{
		if (__builtin_popcount(nbmf_cas_route(t, difference)) <= search->done[t])
			return false;
	}
	return true;
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
					Min(query->ball[0].distance, search->hits->cutoff - 1), search->ahead, found);
	for (int m = 0; m < matches; m++)
	{
		int i = first + found[m];
		uint64 difference = keys[i] ^ query->ball[0].simhash;
		int distance = distance_of(keys[i], query->ball[0].simhash);
		const char *payload;
		bool inside = distance > query->over && is_new(search, difference, distance);

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
 * Values that differ from one in bits, least to most of them, in ascending order;
 * bit: the highest one that may differ.
 */
static uint16 *
add_values(uint16 value, int bit, int least, int most, uint16 *out)
{
	uint16 mask;

	/* not so many bits are left */
	if (least > bit + 1)
		return out;
	if (most == 0 || bit < 0)
	{
		*out = value;
		return out + 1;
	}
	mask = (uint16) (1 << bit);
	if (value & mask)
	{
		out = add_values(value & ~mask, bit - 1, least - 1, most - 1, out);
		return add_values(value, bit - 1, least, most, out);
	}
	out = add_values(value, bit - 1, least, most, out);
	return add_values(value | mask, bit - 1, least - 1, most - 1, out);
}

/* How many values ahead the processor fetches */
#define AHEAD 8

/* Values to be looked for in several tables */
typedef struct Probes
{
	uint16 *values[CAS_TABLES]; /* in ascending order */
	int n[CAS_TABLES];
	int table; /* next one to be fetched */
	int at;
	CasWalk walk; /* where the last one was */
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
		nbmf_cas_prefetch_value(index, probes->table, probes->values[probes->table][probes->at],
								&probes->walk);
		probes->at++;
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
	for (int i = 0; i < n; i++)
	{
		int first;
		int end;

		if (search->probes != NULL)
			fetch_next(search->index, search->probes);
		if (sorted == 0)
			continue;
		first = end = nbmf_cas_first_of_value(page, values[i]);
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

/*
 * Search a table for its values, which are in ascending order.
 */
static void
search_values(Search *search)
{
	const uint16 *values = search->probes->values[search->table];
	int n = search->probes->n[search->table];
	uint64 done = 0; /* all places before */

	for (int i = 0; i < n; i++)
	{
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
			search->ahead = nbmf_cas_prefetch_bucket(search->index, search->table,
													 (uint16) ((place + width) >> 16));
		next = (uint64) search_bucket(search, NULL, 0, (uint32) place) + 1;
		width = next - place;
		place = next;
	}
}

static Search
begin_search(Relation index, const CasQuery *query, CasHits *hits, int table)
{
	int scalars = nbmf_cas_info(index)->scalars;
	Search search = {.index = index,
					 .query = query,
					 .hits = hits,
					 .table = table,
					 .scalars = scalars,
					 .payload_size = nbmf_cas_payload_size(table, scalars),
					 .done = {-1, -1, -1, -1},
					 .radius = CHUNK_BITS,
					 .dropped = 65};

	if (match == NULL)
		match = nbmf_match_function(0);
	return search;
}

/*
 * Search tables up to the radii of a plan (-1: not).
 */
static void
search_radii(Relation index, const CasQuery *query, CasHits *hits, const int *radius)
{
	uint16 values[CAS_TABLES * MAX_PROBES];
	Probes probes = {.walk.table = -1};
	uint16 *end = values;
	int done[CAS_TABLES] = {-1, -1, -1, -1};

	for (int t = 0; t < CAS_TABLES; t++)
	{
		uint16 *first = end;

		if (radius[t] >= 0)
			end = add_values(nbmf_cas_route(t, query->ball[0].simhash), CHUNK_BITS - 1, 0,
							 radius[t], end);
		probes.values[t] = first;
		probes.n[t] = (int) (end - first);
	}
	for (int i = 0; i < AHEAD; i++)
		fetch_next(index, &probes);
	for (int t = 0; t < CAS_TABLES; t++)
	{
		Search search = begin_search(index, query, hits, t);

		memcpy(search.done, done, sizeof(done));
		search.radius = radius[t];
		search.probes = &probes;
		search_values(&search);
		done[t] = radius[t];
	}
}

/*
 * Add the hits of a query.
 */
void
nbmf_cas_search(Relation index, const CasQuery *query, CasHits *hits)
{
	const CasRoot *roots[CAS_TABLES];
	uint16 chunks[CAS_TABLES];
	CasPlan plan;

	if (query->exact)
	{
		Search search = begin_search(index, query, hits, CAS_TABLE_DIGEST);
		uint16 value = nbmf_cas_route(CAS_TABLE_DIGEST, query->simhash);

		(void) search_bucket(&search, &value, 1,
							 nbmf_cas_place(CAS_TABLE_DIGEST, query->simhash, query->digest));
		return;
	}
	for (int t = 0; t < CAS_TABLES; t++)
	{
		roots[t] = nbmf_cas_cached_root(index, t);
		chunks[t] = nbmf_cas_route(t, query->ball[0].simhash);
	}
	nbmf_cas_plan(query->ball[0].distance, chunks, roots, &plan);
	if (plan.flat)
	{
		Search search = begin_search(index, query, hits, PASS_TABLE);

		search_table(&search);
	}
	else
		search_radii(index, query, hits, plan.radius);
}

/*
 * Search a table in which all is done up to a radius, as done says for each of them,
 * up to the next radius; add the hits that are new.
 */
void
nbmf_cas_search_ring(Relation index, const CasQuery *query, CasHits *hits, const int *done,
					 int table)
{
	uint16 values[MAX_RING];
	Probes probes = {.walk.table = -1};
	Search search = begin_search(index, query, hits, table);

	memcpy(search.done, done, sizeof(search.done));
	search.radius = done[table] + 1;
	search.probes = &probes;
	probes.values[table] = values;
	probes.n[table] = (int) (add_values(nbmf_cas_route(table, query->ball[0].simhash),
										CHUNK_BITS - 1, search.radius, search.radius, values) -
							 values);
	for (int i = 0; i < AHEAD; i++)
		fetch_next(index, &probes);
	search_values(&search);
}

/*
 * Search all of a table; add the hits that are new, and those at a distance of
 * dropped and beyond, new or not.
 */
void
nbmf_cas_search_rest(Relation index, const CasQuery *query, CasHits *hits, const int *done,
					 int dropped)
{
	Search search = begin_search(index, query, hits, PASS_TABLE);

	memcpy(search.done, done, sizeof(search.done));
	search.dropped = dropped;
	search_table(&search);
}
