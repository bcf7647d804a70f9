/*
 * compat.h
 *		Every test of PG_VERSION_NUM there is.
 *
 * nbmf supports PostgreSQL 15 to 18.  Where they differ, the newest form is
 * the one the code uses, and this file makes it for the older ones.
 */
#ifndef NBMF_COMPAT_H
#define NBMF_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "nbmf needs PostgreSQL 15 or newer"
#endif

/* VARDATA_ANY and its family moved out of postgres.h in 16 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The statistics target moved from the attribute to VacAttrStats in 17 */
#if PG_VERSION_NUM >= 170000
#define nbmf_statistics_target(stats)        ((stats)->attstattarget)
#define nbmf_set_statistics_target(stats, n) ((stats)->attstattarget = (n))
#else
#define nbmf_statistics_target(stats)        ((stats)->attr->attstattarget)
#define nbmf_set_statistics_target(stats, n) ((stats)->attr->attstattarget = (n))
#endif

/* vacuum_delay_point() learned whether it is called by ANALYZE in 18 */
#if PG_VERSION_NUM >= 180000
#define nbmf_analyze_delay_point() vacuum_delay_point(true)
#define nbmf_vacuum_delay_point()  vacuum_delay_point(false)
#else
#define nbmf_analyze_delay_point() vacuum_delay_point()
#define nbmf_vacuum_delay_point()  vacuum_delay_point()
#endif

/* pg_noreturn, before the declaration, replaced pg_attribute_noreturn() in 18 */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* RelationGetPrimaryKeyIndex() learned of deferrable keys in 18 */
#if PG_VERSION_NUM >= 180000
#define nbmf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define nbmf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* Ownership is asked of any kind of object alike since 16 */
#if PG_VERSION_NUM >= 160000
#define nbmf_owns_relation(relid) object_ownercheck(RelationRelationId, relid, GetUserId())
#else
#define nbmf_owns_relation(relid) pg_class_ownercheck(relid, GetUserId())
#endif

/* index_beginscan() learned to instrument in 18 */
#if PG_VERSION_NUM >= 180000
#define nbmf_index_beginscan(heap, index, snapshot, nkeys, norderbys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, norderbys)
#else
#define nbmf_index_beginscan(heap, index, snapshot, nkeys, norderbys) \
	index_beginscan(heap, index, snapshot, nkeys, norderbys)
#endif

/*
 * Since 18 the planner takes the path with the fewest disabled nodes, whatever it
 * costs: this makes an index scan worse than a disabled sequential scan
 */
#if PG_VERSION_NUM >= 180000
#define nbmf_disable_index_path(index_path) ((index_path)->path.disabled_nodes += 2)
#else
#define nbmf_disable_index_path(index_path) ((void) 0)
#endif

/* What names a relation's file got another name in 16 */
#if PG_VERSION_NUM >= 160000
#define nbmf_locator(rel) ((rel)->rd_locator)
#else
#define nbmf_locator(rel) ((rel)->rd_node)
#endif

/*
 * The server plans the workers of a build for any access method that wants it since
 * 17; before, only for btree
 */
#if PG_VERSION_NUM >= 170000
#define nbmf_set_parallel_build(routine)      ((routine)->amcanbuildparallel = true)
#define nbmf_build_workers(heap, index, info) ((info)->ii_ParallelWorkers)
#else
#define nbmf_set_parallel_build(routine) ((void) 0)
#define nbmf_build_workers(heap, index, info)                                         \
	(IsNormalProcessingMode()                                                         \
		 ? plan_create_index_workers(RelationGetRelid(heap), RelationGetRelid(index)) \
		 : 0)
#endif

/* PG_MODULE_MAGIC_EXT, which carries a name and a version, came in 18 */
#if PG_VERSION_NUM >= 180000
#define NBMF_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "nbmf", .version = NBMF_VERSION)
#else
#define NBMF_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif /* NBMF_COMPAT_H */
