/*
 * nbmf_catalog.c
 *		The tables in which maintenance keeps what it knows, nbmf.pass and
 *		nbmf.dictionary_use: opening them, and writing a row.
 *
 * They are read and written as catalogs are: by whoever maintains a table, who
 * need not have rights on them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tier/tier.h"

Relation
nbmf_catalog_open(const char *name, LOCKMODE lock)
{
	return table_open(get_relname_relid(name, get_namespace_oid("nbmf", false)), lock);
}

/*
 * Write a row without nulls: in the place of old, or as a new one where that is
 * NULL.
 */
void
nbmf_catalog_write(Relation rel, HeapTuple old, const Datum *values)
{
	TupleDesc tupdesc = RelationGetDescr(rel);
	bool *nulls = palloc0(sizeof(bool) * tupdesc->natts);
	HeapTuple tuple = heap_form_tuple(tupdesc, unconstify(Datum *, values), nulls);

	if (HeapTupleIsValid(old))
		CatalogTupleUpdate(rel, &old->t_self, tuple);
	else
		CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	pfree(nulls);
	CommandCounterIncrement();
}
