/*
 * nbmf_json.c
 *		The operators -> ->> #> #>> and ||, with the meaning they have for
 *		jsonb.
 *
 * The server's json functions find the part in the decoded text, in one pass
 * and without building a jsonb of the whole document; only the part that was
 * asked for is then turned into what jsonb would have given.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_object_field);
PG_FUNCTION_INFO_V1(nbmf_object_field_text);
PG_FUNCTION_INFO_V1(nbmf_array_element);
PG_FUNCTION_INFO_V1(nbmf_array_element_text);
PG_FUNCTION_INFO_V1(nbmf_extract_path);
PG_FUNCTION_INFO_V1(nbmf_extract_path_text);
PG_FUNCTION_INFO_V1(nbmf_concat);
PG_FUNCTION_INFO_V1(nbmf_contained);

/*
 * Apply one of the server's json functions to argument 0's text (which is
 * zero-terminated) and argument 1; the part found, as JSON text, or NULL.
 */
static text *
find_part(PGFunction function, FunctionCallInfo call)
{
	LOCAL_FCINFO(fcinfo, 2);
	Size len;
	char *json = nbmf_value_text(DatumGetNbmfPP(call->args[0].value), VARHDRSZ, &len);
	Datum result;

	SET_VARSIZE(json, VARHDRSZ + len);
	InitFunctionCallInfoData(*fcinfo, NULL, 2, call->fncollation, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(json);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1] = call->args[1];
	result = function(fcinfo);
	pfree(json);
	return fcinfo->isnull ? NULL : DatumGetTextPP(result);
}

static Jsonb *
part_as_jsonb(text *part)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(part))));
}

static Datum
return_part(PGFunction function, FunctionCallInfo fcinfo)
{
	text *part = find_part(function, fcinfo);

	if (part == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(part_as_jsonb(part));
}

/*
 * The part as text: strings without quotes and escapes, null as NULL, all
 * else as jsonb prints it.
 */
static Datum
return_part_text(PGFunction function, FunctionCallInfo fcinfo)
{
	text *part = find_part(function, fcinfo);
	const char *data;
	int len;
	Jsonb *json;
	JsonbValue scalar;
	StringInfoData out;

	if (part == NULL)
		PG_RETURN_NULL();

	/* a string without escapes, the usual case, is between its quotes */
	data = VARDATA_ANY(part);
	len = (int) VARSIZE_ANY_EXHDR(part);
	if (len >= 2 && data[0] == '"' && data[len - 1] == '"' && memchr(data, '\\', len) == NULL)
		PG_RETURN_TEXT_P(cstring_to_text_with_len(data + 1, len - 2));

	json = part_as_jsonb(part);
	if (JB_ROOT_IS_SCALAR(json))
	{
		(void) JsonbExtractScalar(&json->root, &scalar);
		if (scalar.type == jbvNull)
			PG_RETURN_NULL();
		if (scalar.type == jbvString)
			PG_RETURN_TEXT_P(
				cstring_to_text_with_len(scalar.val.string.val, scalar.val.string.len));
	}
	initStringInfo(&out);
	JsonbToCString(&out, &json->root, VARSIZE(json));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* body -> 'key' */
Datum
nbmf_object_field(PG_FUNCTION_ARGS)
{
	return return_part(json_object_field, fcinfo);
}

/* body ->> 'key' */
Datum
nbmf_object_field_text(PG_FUNCTION_ARGS)
{
	return return_part_text(json_object_field, fcinfo);
}

/*
 * json_array_element, save that a scalar is an array of itself: jsonb takes it
 * so, json does not.
 */
static Datum
array_element(PG_FUNCTION_ARGS)
{
	text *json = PG_GETARG_TEXT_PP(0);
	int index = PG_GETARG_INT32(1);
	size_t space = strspn(VARDATA_ANY(json), " \t\r\n");

	if ((index == 0 || index == -1) && strchr("[{", VARDATA_ANY(json)[space]) == NULL)
	{
		(void) DirectFunctionCall1(json_in, CStringGetDatum(VARDATA_ANY(json)));
		PG_RETURN_TEXT_P(cstring_to_text(VARDATA_ANY(json) + space));
	}
	return json_array_element(fcinfo);
}

/* body -> 0 */
Datum
nbmf_array_element(PG_FUNCTION_ARGS)
{
	return return_part(array_element, fcinfo);
}

/* body ->> 0 */
Datum
nbmf_array_element_text(PG_FUNCTION_ARGS)
{
	return return_part_text(array_element, fcinfo);
}

/*
 * json_extract_path, one step at a time: of equal keys the last one counts on
 * every level, as it does for jsonb; json looks into each of them.
 */
static Datum
extract_path(PG_FUNCTION_ARGS)
{
	Datum part = PG_GETARG_DATUM(0);
	ArrayType *path = PG_GETARG_ARRAYTYPE_P(1);
	Datum *keys;
	bool *nulls;
	int n;

	deconstruct_array(path, TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls, &n);
	if (n <= 1)
		return json_extract_path(fcinfo);
	for (int i = 0; i < n; i++)
	{
		LOCAL_FCINFO(step, 2);

		if (nulls[i])
			PG_RETURN_NULL();
		InitFunctionCallInfoData(*step, NULL, 2, fcinfo->fncollation, NULL, NULL);
		step->args[0].value = part;
		step->args[0].isnull = false;
		step->args[1].value =
			PointerGetDatum(construct_array(&keys[i], 1, TEXTOID, -1, false, TYPALIGN_INT));
		step->args[1].isnull = false;
		part = json_extract_path(step);
		if (step->isnull)
			PG_RETURN_NULL();
	}
	return part;
}

/* body #> '{a,0}' */
Datum
nbmf_extract_path(PG_FUNCTION_ARGS)
{
	return return_part(extract_path, fcinfo);
}

/* body #>> '{a,0}' */
Datum
nbmf_extract_path_text(PG_FUNCTION_ARGS)
{
	return return_part_text(extract_path, fcinfo);
}

/*
 * body || '{"read": true}'
 *
 * An operator of its own, because a literal or a parameter without type on one
 * side would otherwise make it a concatenation of texts.
 */
Datum
nbmf_concat(PG_FUNCTION_ARGS)
{
	Datum parts[2];

	for (int i = 0; i < 2; i++)
	{
		Size len;
		char *text = nbmf_value_text(PG_GETARG_NBMF_PP(i), 0, &len);

		parts[i] = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	}
	return DirectFunctionCall2(jsonb_concat, parts[0], parts[1]);
}

/*
 * body <@ '{"read": true, "by": 2}'
 *
 * An operator of its own, because a literal or a parameter without type on the
 * right would otherwise be taken for an nbmf_ball.
 */
Datum
nbmf_contained(PG_FUNCTION_ARGS)
{
	Datum sides[2];

	for (int i = 0; i < 2; i++)
	{
		Size len;
		char *text = nbmf_value_text(PG_GETARG_NBMF_PP(i), 0, &len);

		sides[i] = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	}
	return DirectFunctionCall2(jsonb_contained, sides[0], sides[1]);
}
