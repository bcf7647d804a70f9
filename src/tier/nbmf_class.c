/*
 * nbmf_class.c
 *		Triggers that keep the administration tables right, and presets.
 *
 * Preset rows of nbmf.class come with the extension and are not dumped, so
 * that a restored database has those of its own version; a row that a user has
 * changed is the user's, is dumped, and takes the preset row's place when it is
 * restored.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tier/tier.h"

#define Anum_class_name   1
#define Anum_class_preset 7

PG_FUNCTION_INFO_V1(nbmf_keep_class);
PG_FUNCTION_INFO_V1(nbmf_guard_object);
PG_FUNCTION_INFO_V1(nbmf_apply_preset);

/* Levels for new and for aged values; names and levels of the users' guide */
typedef struct Preset
{
	const char *name;
	int l1_level;
	int l2_level;
} Preset;

static const Preset presets[] = {
	{"development", 1, 1},
	{"production", 3, 17},
	{"high_performance", 1, 15},
	{"maximum_compression", 9, 21},
};

/*
 * Row trigger before INSERT and UPDATE of nbmf.class.
 */
Datum
nbmf_keep_class(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc tupdesc;
	HeapTuple row;
	int column = Anum_class_preset;
	Datum preset = BoolGetDatum(false);
	bool isnull = false;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		RelationGetRelid(data->tg_relation) !=
			get_relname_relid("class", get_namespace_oid("nbmf", false)))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("nbmf.keep_class() was not called as the trigger it is")));
	tupdesc = RelationGetDescr(data->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		Oid types[1] = {NAMEOID};
		Datum name = heap_getattr(row, Anum_class_name, tupdesc, &isnull);

		if (!isnull)
		{
			SPI_connect();
			(void) SPI_execute_with_args("DELETE FROM nbmf.class WHERE name = $1 AND preset", 1,
										 types, &name, NULL, false, 0);
			SPI_finish();
		}
		isnull = false;
	}
	return PointerGetDatum(heap_modify_tuple_by_cols(row, tupdesc, 1, &column, &preset, &isnull));
}

/*
 * Statement trigger before UPDATE, DELETE and TRUNCATE of nbmf.object.
 */
Datum
nbmf_guard_object(PG_FUNCTION_ARGS)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("rows of nbmf.object cannot be changed or deleted"),
					errdetail("Values refer to them, also values that no query can find: in "
							  "open cursors, prepared transactions and backups.")));
}

/*
 * nbmf.apply_preset(name): set the levels of all classes; returns how many.
 */
Datum
nbmf_apply_preset(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid types[2] = {INT4OID, INT4OID};

	for (int i = 0; i < lengthof(presets); i++)
	{
		Datum values[2] = {Int32GetDatum(presets[i].l1_level), Int32GetDatum(presets[i].l2_level)};
		uint64 changed;

		if (strcmp(presets[i].name, name) != 0)
			continue;
		SPI_connect();
		if (SPI_execute_with_args("UPDATE nbmf.class SET l1_level = $1, l2_level = $2", 2, types,
								  values, NULL, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not update nbmf.class");
		changed = SPI_processed;
		SPI_finish();
		PG_RETURN_INT64((int64) changed);
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown preset \"%s\"", name),
					errhint("Presets are \"development\", \"production\", \"high_performance\" and "
							"\"maximum_compression\".")));
}
