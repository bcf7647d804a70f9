/*
 * cas.h
 *		The index access method nbmf_cas: exact and near duplicates by content.
 *
 * Four tables in one index: exact multi-index hashing (Norouzi, Punjani, Fleet
 * 2012), one table for each 16-bit chunk of the simhash; fingerprints that
 * differ in at most d bits differ little in at least one chunk, so that a few
 * buckets of each table hold all of them.  Entries of the first table also have
 * the first 32 bits of the digest.  Equal contents have equal fingerprints, so
 * equality is looked up there, too, and the digest tells it from the rest.
 *
 * A table is a row of buckets in the order of the entries' places, linked to the
 * right as in a B-link tree (Lehman and Yao 1981).  A place is 32 bits: the chunk,
 * and in the first table 16 bits of the digest, so that the different contents of
 * one fingerprint, however many, have buckets of their own; 0 in the others.  A
 * bucket starts where it started when it was made, for ever, and is never freed;
 * when it is full, its upper part goes to a new bucket on its right.  A bucket
 * that cannot be split, since its entries have one place, grows a chain of
 * overflow pages instead.  The directory (a root page for each table, and more
 * pages when it is large) says for each value of the chunk a bucket at or to the
 * left of its own: it may be behind, never wrong.
 *
 * Locks: readers hold one page at a time, except along a chain, where they
 * hold a page until they have the next.  Writers lock bucket, chain in its
 * order, new page, root, directory page, in this order; the redo of a change
 * locks its pages in the order in which they are registered, so that order is
 * the same.  Everything read from a page is copied while it is locked.
 *
 * The bytes are specified in docs/format.md.
 */
#ifndef NBMF_CAS_H
#define NBMF_CAS_H

#include "access/amapi.h"
#include "access/generic_xlog.h"
#include "access/reloptions.h"
#include "access/tableam.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "port/pg_bswap.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/dsm.h"
#include "storage/itemptr.h"
#include "storage/shm_toc.h"
#include "utils/rel.h"

#include "codec/codec.h"
#include "compat.h"

/*
 * The SQL types nbmf_key and nbmf_ball
 */

/* nbmf_key: what the index knows of a content.  32 bytes, 8-byte aligned. */
typedef struct NbmfKey
{
	uint8 digest[16]; /* first half of SHA-256; last byte XOR representation */
	uint64 simhash;
	uint64 second;
} NbmfKey;

/* nbmf_ball: the fingerprints within a distance.  16 bytes, 8-byte aligned. */
typedef struct NbmfBall
{
	uint64 simhash;
	int32 distance; /* 0 to 64 */
	int32 unused;   /* 0 */
} NbmfBall;

StaticAssertDecl(sizeof(NbmfKey) == 32, "size of type nbmf_key");
StaticAssertDecl(sizeof(NbmfBall) == 16, "size of type nbmf_ball");

#define DatumGetNbmfKey(d)     ((NbmfKey *) DatumGetPointer(d))
#define DatumGetNbmfBall(d)    ((NbmfBall *) DatumGetPointer(d))
#define PG_GETARG_NBMF_KEY(n)  DatumGetNbmfKey(PG_GETARG_DATUM(n))
#define PG_GETARG_NBMF_BALL(n) DatumGetNbmfBall(PG_GETARG_DATUM(n))

/* What ~= allows: similarity 0.88 of 64 bits.  Part of the format. */
#define NBMF_CAS_NEAR_DISTANCE 7

/*
 * Operator class members
 */
#define CAS_STRATEGY_EQUAL    1
#define CAS_STRATEGY_NEAR     2
#define CAS_STRATEGY_BALL     3
#define CAS_STRATEGY_DISTANCE 4
#define CAS_STRATEGIES        4

#define CAS_PROC_HASH         1 /* of a scalar column: (value, int8) -> int8 */
#define CAS_PROC_KEY          2 /* of the content column: (value) -> nbmf_key */
#define CAS_PROCS             2

/*
 * Pages
 */
#define CAS_MAGIC          0x6e626d43
#define CAS_VERSION        1

#define CAS_TABLES         4 /* one for each chunk of the simhash */
#define CAS_TABLE_DIGEST   0 /* the one whose entries have a part of the digest */

#define CAS_VALUES         65536 /* that 16 bits can have */
#define CAS_PLACES         ((uint64) 1 << 32)
#define CAS_GROUPS         64 /* of values; each may have a directory page */
#define CAS_GROUP_VALUES   1024
#define CAS_SLOTS          1024 /* of the root, and of a directory page */
#define CAS_SLOT_VALUES    64   /* that a slot of the root stands for */
#define CAS_NARROW         16   /* values of a bucket for which that is too coarse */
#define CAS_SLOT_PIECES    64 /* bits of the digest that a slot of a value's own page stands for */
#define CAS_OWN_DEPTH      3  /* splits inside a value that give it such a page */
#define CAS_OWN_PAGE       0x80000000 /* in a slot: the block is such a page */
#define CAS_HEAVY          32         /* values with many pages that a root knows */
#define CAS_HEAVY_PAGES    16         /* what is many */

#define CAS_META_BLOCK     0
#define CAS_ROOT_BLOCK(t)  ((BlockNumber) (1 + (t)))
#define CAS_FIRST_BLOCK(t) ((BlockNumber) (1 + CAS_TABLES + (t)))
#define CAS_BLOCKS_MIN     (1 + 2 * CAS_TABLES)

typedef enum CasPageType
{
	CAS_PAGE_META = 1,
	CAS_PAGE_ROOT = 2,
	CAS_PAGE_DIRECTORY = 3,
	CAS_PAGE_BUCKET = 4,
	CAS_PAGE_OVERFLOW = 5,
	CAS_PAGE_FREE = 6
} CasPageType;

/*
 * What every page begins with, after PostgreSQL's page header, with which it fills
 * a line of the processor's cache: looking into a page should cost as few of them,
 * and of the TLB's entries, as it can.
 *
 * OFFSET SIZE
 *      0    1  type of the page
 *      1    1  table, 0 to 3
 *      2    2  page id: 0x4e43
 *      4    4  bucket, overflow: first place of the bucket; root, directory: that
 *              it says something about
 *      8    4  last place likewise
 *     12    4  bucket: the bucket on its right, or invalid; overflow: its bucket
 *     16    4  bucket, overflow: next page of the chain, or invalid
 *     20    4  bucket: page of its chain where to try to insert, or invalid
 *     24    4  bucket: pages of its chain, about
 *     28    2  bucket: so many of its first entries are in the order of their values
 *     30    2  bucket: how often it was split inside a value
 */
typedef struct CasHead
{
	uint8 type;
	uint8 table;
	uint16 id;
	uint32 lo;
	uint32 hi;
	BlockNumber right;
	BlockNumber next;
	BlockNumber hint;
	uint32 chain;
	uint16 sorted;
	uint16 depth;
} CasHead;

#define CAS_PAGE_ID 0x4e43

StaticAssertDecl(sizeof(CasHead) == 32, "size of the head of a page");
StaticAssertDecl(offsetof(CasHead, right) == 12 && offsetof(CasHead, sorted) == 28, "its layout");

/*
 * The metapage.
 *
 * OFFSET SIZE
 *      0    4  magic number: 0x6e626d43
 *      4    4  version: 1
 *      8    4  scalar columns
 *     12    4  content column, counted from 1
 */
typedef struct CasMeta
{
	uint32 magic;
	uint32 version;
	uint32 scalars;
	uint32 content;
} CasMeta;

StaticAssertDecl(sizeof(CasMeta) == 16, "size of the metapage");

/* A value with so many pages that queries had better go round it */
typedef struct CasHeavy
{
	uint16 value;
	uint16 unused;
	uint32 pages;
} CasHeavy;

/*
 * The root page of a table.
 *
 * OFFSET SIZE
 *      0    4  buckets
 *      4    4  values with many pages below
 *      8  256  these: value (2), unused (2), pages (4); about
 *    264  256  directory page of each group of 1,024 values, or invalid
 *    520 4096  a bucket for each 64 values, of groups without directory page
 */
typedef struct CasRoot
{
	uint32 buckets;
	uint32 heavies;
	CasHeavy heavy[CAS_HEAVY];
	BlockNumber group[CAS_GROUPS];
	BlockNumber slot[CAS_SLOTS];
} CasRoot;

StaticAssertDecl(sizeof(CasRoot) == 4616, "size of a root page");

/*
 * A directory page: a bucket for each value of a group, 4 bytes each; in the
 * first table a value may have a page of its own (its block + 2^31 is in the
 * slot), with a bucket for each 64 of the 65,536 places of the value.
 *
 * A bucket or overflow page: keys of 8 bytes from the head up, and for
 * each key, from the end of the page down, a payload:
 *
 * OFFSET SIZE
 *      0    6  TID
 *      6    4  table 0 only: bytes 0-3 of the digest as a big-endian number
 *   then  4 each  hash of each scalar column, in the order of the columns
 *
 * The key is the simhash.
 */
#define CAS_TID_SIZE sizeof(ItemPointerData)

StaticAssertDecl(CAS_TID_SIZE == 6, "size of a TID");

#define CAS_HEAD     MAXALIGN(SizeOfPageHeaderData) /* offset of the head */
#define CAS_CONTENTS (CAS_HEAD + sizeof(CasHead))   /* and of what follows */

StaticAssertDecl(CAS_CONTENTS == 56, "offset of the contents");

static inline CasHead *
CasPageHead(Page page)
{
	return (CasHead *) ((char *) page + CAS_HEAD);
}

static inline CasRoot *
CasPageRoot(Page page)
{
	return (CasRoot *) ((char *) page + CAS_CONTENTS);
}

static inline BlockNumber *
CasPageSlots(Page page)
{
	return (BlockNumber *) ((char *) page + CAS_CONTENTS);
}

static inline uint64 *
CasPageKeys(Page page)
{
	return (uint64 *) ((char *) page + CAS_CONTENTS);
}

/* What a value's own directory page says about a place */
static inline BlockNumber
nbmf_cas_own_slot(Page page, uint32 place)
{
	return CasPageSlots(page)[(place & 0xffff) / CAS_SLOT_PIECES];
}

/* What an index's metapage says, and how large the index was when last seen */
typedef struct CasInfo
{
	int scalars;
	int content; /* column, counted from 0 */
	BlockNumber blocks;
} CasInfo;

/* A row, as it goes into the tables */
typedef struct CasRow
{
	uint64 simhash;
	uint32 digest; /* big-endian number of its first bytes */
	ItemPointerData tid;
	uint32 scalars[FLEXIBLE_ARRAY_MEMBER];
} CasRow;

/* The part of a key's digest that entries have */
static inline uint32
nbmf_cas_key_digest(const NbmfKey *key)
{
	uint32 digest;

	memcpy(&digest, key->digest, sizeof(digest));
	return pg_ntoh32(digest);
}

#define CAS_ROW_SIZE(n) MAXALIGN(offsetof(CasRow, scalars) + (n) * sizeof(uint32))

/* Pages that change together */
typedef struct CasChange
{
	GenericXLogState *xlog; /* NULL while building */
	Buffer buffers[MAX_GENERIC_XLOG_PAGES];
	int n;
} CasChange;

/* The chunk of a key that decides where it is in a table */
static inline uint16
nbmf_cas_route(int table, uint64 key)
{
	return (uint16) (key >> (48 - 16 * table));
}

/* The place of an entry with this key and this part of the digest */
static inline uint32
nbmf_cas_place(int table, uint64 key, uint32 digest)
{
	return (uint32) nbmf_cas_route(table, key) << 16 |
		   (table == CAS_TABLE_DIGEST ? digest >> 16 : 0);
}

static inline uint32
nbmf_cas_row_place(int table, const CasRow *row)
{
	return nbmf_cas_place(table, row->simhash, row->digest);
}

/* The first and the last place of a value */
static inline uint32
nbmf_cas_first_place(int value)
{
	return (uint32) value << 16;
}

static inline uint32
nbmf_cas_last_place(int value)
{
	return (uint32) value << 16 | 0xffff;
}

/* Can a bucket be split: are there several places for its entries? */
static inline bool
nbmf_cas_can_split(const CasHead *head)
{
	return head->lo >> 16 < head->hi >> 16 ||
		   (head->table == CAS_TABLE_DIGEST && head->lo < head->hi);
}

static inline Size
nbmf_cas_payload_size(int table, int scalars)
{
	return CAS_TID_SIZE + (table == CAS_TABLE_DIGEST ? sizeof(uint32) : 0) +
		   scalars * sizeof(uint32);
}

static inline int
nbmf_cas_count(Page page)
{
	return (int) ((((PageHeader) page)->pd_lower - CAS_CONTENTS) / sizeof(uint64));
}

static inline char *
nbmf_cas_payload(Page page, int i, Size size)
{
	return (char *) page + BLCKSZ - (Size) (i + 1) * size;
}

static inline bool
nbmf_cas_has_room(Page page, Size payload_size)
{
	return ((PageHeader) page)->pd_upper - ((PageHeader) page)->pd_lower >=
		   (int) (sizeof(uint64) + payload_size);
}

/*
 * cas_page.c: pages, changes, the directory
 */
extern CasInfo *nbmf_cas_info(Relation index);
pg_noreturn extern void nbmf_cas_corrupted(Relation index, BlockNumber block, const char *what);
extern void nbmf_cas_lock_page(Relation index, Buffer buffer, int lock);
extern Buffer nbmf_cas_read(Relation index, BlockNumber block, int lock,
							BufferAccessStrategy strategy);
extern Buffer nbmf_cas_read_typed(Relation index, BlockNumber block, int lock, CasPageType type,
								  int table);
extern void nbmf_cas_check_page(Relation index, Buffer buffer);
extern bool nbmf_cas_pause(Relation index, Buffer buffer);

/* About where among sorted entries those of a value are */
static inline int
nbmf_cas_guess(int value, int lo, int hi, int sorted)
{
	return (int) ((uint32) (value - lo) * (uint32) sorted / ((uint32) (hi - lo) + 1));
}

/* The part of the digest in a payload of the table that has it */
static inline uint32
nbmf_cas_payload_digest(const char *payload)
{
	uint32 digest;

	memcpy(&digest, payload + CAS_TID_SIZE, sizeof(digest));
	return digest;
}

extern int nbmf_cas_first_of_value(Page page, uint16 value);
extern void nbmf_cas_page_init(Page page, CasPageType type, int table);
extern void nbmf_cas_page_add(Page page, int table, const CasRow *row, int scalars);
extern void nbmf_cas_init_block(Relation index, Page page, BlockNumber block, int scalars,
								int content);
extern Buffer nbmf_cas_new_buffer(Relation index);
extern void nbmf_cas_change_begin(CasChange *change, Relation index, bool building);
extern Page nbmf_cas_change_page(CasChange *change, Buffer buffer, bool fresh);
extern void nbmf_cas_change_finish(CasChange *change);
extern void nbmf_cas_add(Relation index, const Buffer *buffers, int n, const CasRow *row,
						 int scalars);

/*
 * cas_directory.c
 */
extern void nbmf_cas_read_root(Relation index, int table, CasRoot *root);
extern BlockNumber nbmf_cas_bucket_for(Relation index, int table, uint32 place);
extern void nbmf_cas_directory_add(Relation index, int table, uint32 lo, uint32 hi,
								   BlockNumber block, int depth, bool building);
extern void nbmf_cas_directory_heavy(Relation index, int table, uint16 value, uint32 pages,
									 bool grows, bool building);

/*
 * cas_cache.c: what a backend remembers of the directory
 */
typedef struct CasWay
{
	BlockNumber block; /* bucket (or own page of a value) at or to the left of ... */
	Buffer buffer;     /* where it was last seen */
	uint16 from;       /* ... the one of this value */
	uint16 sorted;     /* entries that were sorted then */
} CasWay;

/* Where the last value was of several that are fetched in ascending order */
typedef struct CasWalk
{
	int table; /* -1: there has been none */
	int group;
	int at;
	const char *page; /* NULL: not known */
} CasWalk;

extern void nbmf_cas_cache_forget(Relation index);
extern const CasRoot *nbmf_cas_cached_root(Relation index, int table);
extern const char *nbmf_cas_prefetch_bucket(Relation index, int table, uint16 value);
extern void nbmf_cas_prefetch_value(Relation index, int table, uint16 value, CasWalk *walk);
extern Buffer nbmf_cas_lock_bucket(Relation index, int table, uint32 place, int lock);

/*
 * cas_insert.c
 */
extern int nbmf_cas_insert_rows(Relation index, int table, CasRow *const *rows, int n,
								bool building);
extern int nbmf_cas_content_column(Relation index, int *scalars);
extern bool nbmf_cas_make_row(Relation index, const CasInfo *info, Datum *values, bool *isnull,
							  ItemPointer tid, CasRow *row);
extern bool nbmf_cas_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid,
							Relation heap, IndexUniqueCheck check, bool unchanged,
							IndexInfo *index_info);

/*
 * cas_build.c
 */
extern IndexBuildResult *nbmf_cas_build(Relation heap, Relation index, IndexInfo *index_info);
extern void nbmf_cas_build_empty(Relation index);
extern char *nbmf_cas_build_phase(int64 phase);

/*
 * cas_parallel.c: parallel workers of a build
 */

/* Bytes of rows that a worker sends at a time, at most */
#define CAS_CREW_MESSAGE 8192

typedef struct CasCrew CasCrew;

extern CasCrew *nbmf_cas_crew_begin(Relation heap, Relation index, const IndexInfo *index_info);
extern TableScanDesc nbmf_cas_crew_scan(CasCrew *crew, Relation heap);
extern const char *nbmf_cas_crew_receive(CasCrew *crew, bool wait, Size *size);
extern double nbmf_cas_crew_end(CasCrew *crew, IndexInfo *index_info);
extern PGDLLEXPORT void nbmf_cas_build_worker(dsm_segment *segment, shm_toc *toc);

/*
 * cas_search.c: finding entries
 */
typedef struct CasFilter
{
	int column; /* scalar column */
	uint32 hash;
} CasFilter;

typedef struct CasQuery
{
	bool exact; /* entries with this fingerprint and part of the digest ... */
	uint64 simhash;
	uint32 digest;
	int balls; /* ... or in all of these balls, the smallest first */
	NbmfBall *ball;
	int over; /* and farther than this from the first (-1: no matter) */
	int filters;
	CasFilter *filter; /* and with these hashes */
} CasQuery;

typedef struct CasHit
{
	ItemPointerData tid;
	uint16 distance;
} CasHit;

typedef struct CasHits
{
	MemoryContext context;
	CasHit *hit;
	int64 n;
	int64 room;
	int64 limit;     /* nearest hits are enough: drop beyond about so many; 0: all */
	int cutoff;      /* hits at this distance and beyond were dropped */
	int64 count[65]; /* hits at each distance */
} CasHits;

/* Pages that a query reads, and whether in one pass over a table */
typedef struct CasPlan
{
	int radius[CAS_TABLES]; /* -1: leave the table out */
	double pages;
	bool flat;
} CasPlan;

/* Radii that are searched; beyond, one pass over a table costs less */
#define CAS_MAX_RADIUS 4

/* Pages that are read up to each radius (from -1 on), and by a pass over a table */
typedef struct CasRingPlan
{
	double cost[CAS_TABLES][CAS_MAX_RADIUS + 2];
	double pass;
	double entries; /* about */
} CasRingPlan;

extern void nbmf_cas_plan(int distance, uint16 const *chunks, const CasRoot *const *roots,
						  CasPlan *plan);
extern double nbmf_cas_plan_pages(int distance, double buckets);
extern void nbmf_cas_plan_rings(Relation index, uint64 simhash, CasRingPlan *plan);
extern void nbmf_cas_search(Relation index, const CasQuery *query, CasHits *hits);
extern void nbmf_cas_search_ring(Relation index, const CasQuery *query, CasHits *hits,
								 const int *done, int table);
extern void nbmf_cas_search_rest(Relation index, const CasQuery *query, CasHits *hits,
								 const int *done, int dropped);
extern void nbmf_cas_hits_init(CasHits *hits, MemoryContext context);
extern void nbmf_cas_hits_reset(CasHits *hits);
extern void nbmf_cas_hits_sort(CasHits *hits, bool by_distance);
extern void nbmf_cas_hits_take(CasHits *hits, int distance, CasHits *out);

/*
 * cas_nearest.c: the nearest entries first
 */
typedef struct CasNearest
{
	CasQuery query; /* its first ball is around what is ordered by, and has all hits in it */
	CasRingPlan plan;
	int done[CAS_TABLES]; /* radii up to which tables have been searched */
	double spent;         /* pages that were read */
	double budget;        /* and may be, before a pass */
	bool passing;
	int finished; /* all hits up to this distance have been given out */
	CasHits pool; /* hits that have been found, and not given out */
} CasNearest;

extern void nbmf_cas_nearest_begin(CasNearest *nearest, Relation index, const CasQuery *query);
extern bool nbmf_cas_nearest_next(CasNearest *nearest, Relation index, CasHits *hits);

/*
 * cas_scan.c
 */
extern IndexScanDesc nbmf_cas_begin_scan(Relation index, int nkeys, int norderbys);
extern void nbmf_cas_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys,
							int norderbys);
extern bool nbmf_cas_get_tuple(IndexScanDesc scan, ScanDirection direction);
extern int64 nbmf_cas_get_bitmap(IndexScanDesc scan, TIDBitmap *bitmap);
extern void nbmf_cas_end_scan(IndexScanDesc scan);

/*
 * cas_count.c: what the statistics count
 */

/* A lookup that compares contents */
typedef struct CasVerifier
{
	Oid index;
	uint64 simhash;   /* of what it looks for */
	int distance;     /* what is near in this index, by fingerprint ... */
	double threshold; /* ... and by content */
	bool exact;       /* what was found */
	bool near;
	bool unverified;
	uint64 divergent; /* near by fingerprint, and not by content */
	uint64 ns;        /* of scans that were done for it */
	struct CasVerifier *outer;
} CasVerifier;

extern void nbmf_cas_verify_begin(CasVerifier *verifier, Relation index, const NbmfKey *key);
extern void nbmf_cas_verify_end(CasVerifier *verifier);
extern void nbmf_cas_verify_again(CasVerifier *verifier);
extern void nbmf_cas_verify_found(CasVerifier *verifier, bool compared, bool exact, int distance,
								  double similarity);
extern void nbmf_cas_verify_count(const CasVerifier *verifier);
extern void nbmf_cas_count_insert(Relation index, const CasRow *row, bool found);
extern void nbmf_cas_count_scan(Relation index, const CasQuery *query, const CasHits *hits,
								const uint32 *digest, bool constraint, uint64 ns);

/*
 * cas_vacuum.c
 */
extern IndexBulkDeleteResult *nbmf_cas_bulk_delete(IndexVacuumInfo *info,
												   IndexBulkDeleteResult *stats,
												   IndexBulkDeleteCallback callback, void *state);
extern IndexBulkDeleteResult *nbmf_cas_vacuum_cleanup(IndexVacuumInfo *info,
													  IndexBulkDeleteResult *stats);

/*
 * cas_cost.c
 */
extern double nbmf_cas_uniform_share(int distance);
extern void nbmf_cas_cost_estimate(struct PlannerInfo *root, struct IndexPath *path,
								   double loop_count, Cost *startup, Cost *total,
								   Selectivity *selectivity, double *correlation, double *pages);

/*
 * cas_key.c: the types
 */
extern void nbmf_cas_key_of(Datum value, NbmfKey *key);
extern int nbmf_cas_distance_of(double threshold);

/*
 * cas_lookup.c
 */
extern void nbmf_cas_compare(Datum found, bool is_key, const NbmfKey *key, const NbmfFrame *frame,
							 const char *content, int *distance, double *similarity, bool *exact);

/*
 * cas_handler.c
 */
extern double nbmf_cas_index_threshold(Relation index);
extern int nbmf_cas_index_distance(Relation index);
extern Oid nbmf_cas_ball_operator(Relation index, int column);
extern bool nbmf_cas_is_method(Relation index);
extern void nbmf_cas_require_index(Relation index);
extern void nbmf_cas_init(void);

#endif /* NBMF_CAS_H */
