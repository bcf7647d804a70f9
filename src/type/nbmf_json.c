/*
 * nbmf_json.c
 *		The operators -> ->> #> #>>, with the meaning they have for jsonb.
 *
 * The server's json functions find the part in the decoded text, in one pass
 * and without building a jsonb of the whole document; only the part that was
 * asked for is then turned into what jsonb would have given.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
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

/* body #> '{a,0}' */
Datum
nbmf_extract_path(PG_FUNCTION_ARGS)
{
	return return_part(json_extract_path, fcinfo);
}

/* body #>> '{a,0}' */
Datum
nbmf_extract_path_text(PG_FUNCTION_ARGS)
{
	return return_part_text(json_extract_path, fcinfo);
}
