/*
 * nbmf_rowtrigger.c
 *		The row trigger of attached columns: encodes a new value with the
 *		dictionary of its class and tenant.
 *
 * It runs before every row that is inserted or whose body, class or tenant is
 * set: on COPY, INSERT .. SELECT, ON CONFLICT and logical replication's apply
 * too.  It changes how the value is encoded and never the value.  It must not
 * keep a row from being written for want of a dictionary or a setting: then
 * the value stays as it came, compressed by zstd alone.
 *
 * Most values come straight from a cast or input function, which is told what
 * was taken over here and then leaves compression to us (type/nbmf_defer.c).
 *
 * A value may come with a reference to another column's dictionary, or another
 * tenant's (INSERT .. SELECT).  Such a reference is never kept.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tier/tier.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_encode_row);

/*
 * A column's value as text; NULL for null or where no column is given.
 */
static char *
column_text(HeapTuple row, TupleDesc tupdesc, AttrNumber column)
{
	Datum value;
	bool isnull;
	Oid output;
	bool is_varlena;

	if (column == InvalidAttrNumber)
		return NULL;
	value = heap_getattr(row, column, tupdesc, &isnull);
	if (isnull)
		return NULL;
	getTypeOutputInfo(TupleDescAttr(tupdesc, column - 1)->atttypid, &output, &is_varlena);
	return OidOutputFunctionCall(output, value);
}

/*
 * Class of a row: what its class column says, if there is such a class, else
 * the column's.  NULL if neither is there, or the column not properly attached.
 */
const NbmfClass *
nbmf_class_of_row(const NbmfAttachment *attachment, HeapTuple row, TupleDesc tupdesc)
{
	char *name;
	const NbmfClass *result;

	if (!nbmf_attachment_is_known(attachment))
		return NULL;
	name = column_text(row, tupdesc, attachment->class_by);
	result = name != NULL ? nbmf_class_lookup(name) : NULL;

	return result != NULL ? result : nbmf_class_lookup(nbmf_attachment_class(attachment->id));
}

/*
 * The objects that new values of a row use.
 */
NbmfObjectIds
nbmf_objects_of_row(const NbmfAttachment *attachment, HeapTuple row, TupleDesc tupdesc,
					const NbmfClass *class)
{
	NameData name = class->name;
	char *tenant;

	switch (class->share)
	{
		case NBMF_SHARE_COLUMN:
			return nbmf_current_objects(attachment->id, NameStr(name), NULL);
		case NBMF_SHARE_TENANT:
			tenant = column_text(row, tupdesc, attachment->tenant_by);
			if (tenant != NULL)
				return nbmf_current_objects(attachment->id, NameStr(name), tenant);
			break;
		case NBMF_SHARE_NONE:
			break;
	}
	return (NbmfObjectIds){0, 0};
}

Datum
nbmf_encode_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	NbmfAttachment attachment;
	NbmfFrame frame;
	Size frame_len;
	HeapTuple row;
	TupleDesc tupdesc;
	Datum datum;
	Nbmf *encoded;
	char *content;
	const NbmfClass *class;
	NbmfObjectIds objects = {0, 0};
	bool deferred = false;
	int level = 0;
	int column;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) || TRIGGER_FIRED_BY_DELETE(data->tg_event) ||
		!nbmf_attachment_of_trigger(data->tg_trigger, &attachment))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("nbmf.encode() was not called by a trigger of its own"),
						errhint("Use nbmf.attach() to make the trigger.")));

	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	tupdesc = RelationGetDescr(data->tg_relation);
	datum = heap_getattr(row, attachment.body, tupdesc, &isnull);
	if (isnull)
		return PointerGetDatum(row);

	/* damage is for whoever reads the value; a row can be written around it */
	if (nbmf_value_parse(datum, &frame, &frame_len) != NBMF_OK)
		return PointerGetDatum(row);
	class = nbmf_class_of_row(&attachment, row, tupdesc);
	if (class != NULL)
	{
		level = class->l1_level;
		objects = nbmf_objects_of_row(&attachment, row, tupdesc, class);
	}

	/* maintenance has been here: what it makes is not undone */
	if (objects.model != 0 && frame.object == objects.model)
		return PointerGetDatum(row);
	objects.model = 0;
	if (frame.object == 0)
		deferred = nbmf_defer_take(&frame, objects.dictionary != 0);
	if (frame.object == objects.dictionary && !deferred)
		return PointerGetDatum(row);

	content = nbmf_value_decode(DatumGetNbmfPP(datum), 0, &frame);
	encoded = nbmf_value_encode(frame.kind, NBMF_TIER_L1, content, frame.raw_len,
								objects.dictionary != 0 ? level : 0, objects);

	/* where the dictionary does not do much, doing without may do more */
	if (deferred && objects.dictionary != 0 && VARSIZE_ANY_EXHDR(encoded) > frame.raw_len / 2)
	{
		Nbmf *plain = nbmf_value_encode(frame.kind, NBMF_TIER_L1, content, frame.raw_len, 0,
										(NbmfObjectIds){0, 0});

		if (VARSIZE_ANY_EXHDR(plain) < VARSIZE_ANY_EXHDR(encoded))
			encoded = plain;
	}

	/* no reference that is not ours stays; otherwise the smaller one does */
	if (frame.object == 0 && VARSIZE_ANY_EXHDR(encoded) >= frame_len)
		return PointerGetDatum(row);
	column = attachment.body;
	datum = PointerGetDatum(encoded);
	isnull = false;
	return PointerGetDatum(heap_modify_tuple_by_cols(row, tupdesc, 1, &column, &datum, &isnull));
}
