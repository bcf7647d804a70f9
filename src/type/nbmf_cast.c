/*
 * nbmf_cast.c
 *		Casts to and from text, json, jsonb, bytea and real[], and the function
 *		nbmf_encode, which is the casts to nbmf with mode and level said aloud.
 *
 * The casts to nbmf take the column's modifier themselves, so that an
 * assignment encodes once, at the right level.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "compat.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_from_text);
PG_FUNCTION_INFO_V1(nbmf_from_jsonb);
PG_FUNCTION_INFO_V1(nbmf_from_bytea);
PG_FUNCTION_INFO_V1(nbmf_from_floats);
PG_FUNCTION_INFO_V1(nbmf_encode_text);
PG_FUNCTION_INFO_V1(nbmf_encode_jsonb);
PG_FUNCTION_INFO_V1(nbmf_encode_bytea);
PG_FUNCTION_INFO_V1(nbmf_encode_floats);
PG_FUNCTION_INFO_V1(nbmf_encode_nbmf);
PG_FUNCTION_INFO_V1(nbmf_to_text);
PG_FUNCTION_INFO_V1(nbmf_to_json);
PG_FUNCTION_INFO_V1(nbmf_to_jsonb);
PG_FUNCTION_INFO_V1(nbmf_to_bytea);
PG_FUNCTION_INFO_V1(nbmf_to_floats);

/*
 * To nbmf
 */

static Nbmf *
text_to_nbmf(text *source, int level)
{
	return nbmf_value_from_text(VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source), level);
}

static Nbmf *
jsonb_to_nbmf(Jsonb *source, int level)
{
	StringInfoData text;
	Nbmf *value;

	initStringInfo(&text);
	JsonbToCString(&text, &source->root, VARSIZE(source));
	value = nbmf_value_from_text(text.data, text.len, level);
	pfree(text.data);
	return value;
}

static Nbmf *
bytea_to_nbmf(bytea *source, int level)
{
	return nbmf_value_make(NBMF_KIND_BYTEA, VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source), level);
}

static Nbmf *
floats_to_nbmf(ArrayType *array, int level)
{
	int n;
	float4 *floats;

	if (ARR_NDIM(array) == 0)
		return nbmf_value_from_text("{}", 2, level);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot cast array of %d dimensions to nbmf", ARR_NDIM(array)),
						errhint("Use to_json() to keep it as JSON.")));
	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("cannot cast array with null elements to nbmf"),
						errhint("Use to_json() to keep it as JSON.")));
	if (ARR_LBOUND(array)[0] != 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("cannot cast array with lower bound %d to nbmf", ARR_LBOUND(array)[0]),
				 errdetail("The elements of a vector are numbered from 1.")));
	n = ARR_DIMS(array)[0];
	floats = palloc(n * sizeof(float4));
	memcpy(floats, ARR_DATA_PTR(array), n * sizeof(float4));
	return nbmf_value_from_floats(floats, n, level);
}

Datum
nbmf_from_text(PG_FUNCTION_ARGS)
{
	int level = nbmf_defer_level(fcinfo, nbmf_typmod_level(PG_GETARG_INT32(1)));

	PG_RETURN_NBMF_P(nbmf_defer_note(fcinfo, level, text_to_nbmf(PG_GETARG_TEXT_PP(0), level)));
}

Datum
nbmf_from_jsonb(PG_FUNCTION_ARGS)
{
	int level = nbmf_defer_level(fcinfo, nbmf_typmod_level(PG_GETARG_INT32(1)));

	PG_RETURN_NBMF_P(nbmf_defer_note(fcinfo, level, jsonb_to_nbmf(PG_GETARG_JSONB_P(0), level)));
}

Datum
nbmf_from_bytea(PG_FUNCTION_ARGS)
{
	int level = nbmf_defer_level(fcinfo, nbmf_typmod_level(PG_GETARG_INT32(1)));

	PG_RETURN_NBMF_P(nbmf_defer_note(fcinfo, level, bytea_to_nbmf(PG_GETARG_BYTEA_PP(0), level)));
}

Datum
nbmf_from_floats(PG_FUNCTION_ARGS)
{
	int level = nbmf_defer_level(fcinfo, nbmf_typmod_level(PG_GETARG_INT32(1)));

	PG_RETURN_NBMF_P(
		nbmf_defer_note(fcinfo, level, floats_to_nbmf(PG_GETARG_ARRAYTYPE_P(0), level)));
}

/*
 * nbmf_encode(value, mode, level): checks mode and level, returns the level.
 * A null level stands for nbmf.zstd_level.
 */
static int
encode_level(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("mode must not be null"),
						errhint("Valid modes are \"lossless\" and \"semantic\".")));
	(void) nbmf_mode_from_name(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	return PG_ARGISNULL(2) ? 0 : nbmf_check_level(PG_GETARG_INT32(2));
}

Datum
nbmf_encode_text(PG_FUNCTION_ARGS)
{
	int level = encode_level(fcinfo);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NBMF_P(text_to_nbmf(PG_GETARG_TEXT_PP(0), level));
}

Datum
nbmf_encode_jsonb(PG_FUNCTION_ARGS)
{
	int level = encode_level(fcinfo);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NBMF_P(jsonb_to_nbmf(PG_GETARG_JSONB_P(0), level));
}

Datum
nbmf_encode_bytea(PG_FUNCTION_ARGS)
{
	int level = encode_level(fcinfo);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NBMF_P(bytea_to_nbmf(PG_GETARG_BYTEA_PP(0), level));
}

Datum
nbmf_encode_floats(PG_FUNCTION_ARGS)
{
	int level = encode_level(fcinfo);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NBMF_P(floats_to_nbmf(PG_GETARG_ARRAYTYPE_P(0), level));
}

/*
 * The same value, at another level if that makes it smaller.
 */
Datum
nbmf_encode_nbmf(PG_FUNCTION_ARGS)
{
	int level = encode_level(fcinfo);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NBMF_P(nbmf_value_reencode(PG_GETARG_NBMF_PP(0), level));
}

/*
 * From nbmf
 */

Datum
nbmf_to_text(PG_FUNCTION_ARGS)
{
	Size len;
	char *result = nbmf_value_text(PG_GETARG_NBMF_PP(0), VARHDRSZ, &len);

	SET_VARSIZE(result, VARHDRSZ + len);
	PG_RETURN_TEXT_P(result);
}

/*
 * From the bytes of a vector's content, little-endian, to float4s, in place.
 */
static void
floats_from_stored(char *content, Size len)
{
#ifdef WORDS_BIGENDIAN
	for (Size i = 0; i < len; i += sizeof(uint32))
	{
		uint32 bits;

		memcpy(&bits, content + i, sizeof(bits));
		bits = pg_bswap32(bits);
		memcpy(content + i, &bits, sizeof(bits));
	}
#endif
}

/*
 * A vector as a JSON array; what is no JSON number is a string, as in to_json.
 */
static void
append_vector(StringInfo out, const float4 *floats, Size n)
{
	for (Size i = 0; i < n; i++)
	{
		bool finite = !isnan(floats[i]) && !isinf(floats[i]);

		if (i % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		appendStringInfoChar(out, i == 0 ? '[' : ',');
		if (!finite)
			appendStringInfoChar(out, '"');
		enlargeStringInfo(out, FLOAT_SHORTEST_DECIMAL_LEN);
		out->len += float_to_shortest_decimal_bufn(floats[i], out->data + out->len);
		if (!finite)
			appendStringInfoChar(out, '"');
	}
	appendStringInfoChar(out, ']');
}

/*
 * json keeps the exact text of JSON.  The server asks this cast when it makes
 * JSON of rows (to_json, json_agg, row_to_json, to_jsonb), so it must not fail
 * for the other kinds: they give what to_json gives for text, bytea and real[].
 */
Datum
nbmf_to_json(PG_FUNCTION_ARGS)
{
	Nbmf *value = PG_GETARG_NBMF_PP(0);
	NbmfFrame frame;
	char *content = nbmf_value_decode(value, VARHDRSZ, &frame);
	StringInfoData out;
	Size len;

	if (frame.kind == NBMF_KIND_JSON && nbmf_json_valid(content + VARHDRSZ, frame.raw_len))
	{
		SET_VARSIZE(content, VARHDRSZ + frame.raw_len);
		PG_RETURN_TEXT_P(content);
	}
	initStringInfo(&out);
	if (frame.kind == NBMF_KIND_VECTOR)
	{
		floats_from_stored(content + VARHDRSZ, frame.raw_len);
		append_vector(&out, (float4 *) (content + VARHDRSZ), frame.raw_len / sizeof(float4));
	}
	else
		escape_json(&out, nbmf_value_text(value, 0, &len));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

Datum
nbmf_to_jsonb(PG_FUNCTION_ARGS)
{
	Size len;
	char *text = nbmf_value_text(PG_GETARG_NBMF_PP(0), 0, &len);

	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/*
 * The bytes of a bytea; of any other kind, the bytes of its text in the
 * database's encoding.
 */
Datum
nbmf_to_bytea(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;
	Nbmf *value = PG_GETARG_NBMF_PP(0);
	char *result = nbmf_value_decode(value, VARHDRSZ, &frame);
	Size len = frame.raw_len;

	if (frame.kind == NBMF_KIND_VECTOR)
		result = nbmf_value_text(value, VARHDRSZ, &len);
	SET_VARSIZE(result, VARHDRSZ + len);
	PG_RETURN_BYTEA_P(result);
}

static Datum
float_array(const float4 *floats, Size n)
{
	Size size = ARR_OVERHEAD_NONULLS(1) + n * sizeof(float4);
	ArrayType *array;

	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(FLOAT4OID));
	if (!AllocSizeIsValid(size))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("array size exceeds the maximum allowed (%d)", (int) MaxAllocSize)));
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = (int) n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), floats, n * sizeof(float4));
	PG_RETURN_ARRAYTYPE_P(array);
}

/*
 * A vector's elements; or those of JSON that is an array of numbers, which is
 * how embeddings often arrive; or none of "{}", which an empty real[] became.
 */
Datum
nbmf_to_floats(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;
	char *content = nbmf_value_decode(PG_GETARG_NBMF_PP(0), 0, &frame);

	if (frame.kind == NBMF_KIND_VECTOR)
	{
		floats_from_stored(content, frame.raw_len);
		return float_array((float4 *) content, frame.raw_len / sizeof(float4));
	}
	if (frame.kind == NBMF_KIND_JSON && strcmp(content, "{}") == 0)
		return float_array(NULL, 0);
	if (frame.kind == NBMF_KIND_JSON && content[strspn(content, " \t\r\n")] == '[')
	{
		Jsonb *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(content)));
		JsonbIterator *it = JsonbIteratorInit(&json->root);
		JsonbValue element;
		JsonbIteratorToken token = JsonbIteratorNext(&it, &element, true);
		float4 *floats = palloc(Max(element.val.array.nElems, 1) * sizeof(float4));
		int n = 0;

		while ((token = JsonbIteratorNext(&it, &element, true)) == WJB_ELEM &&
			   element.type == jbvNumeric)
			floats[n++] = DatumGetFloat4(
				DirectFunctionCall1(numeric_float4, NumericGetDatum(element.val.numeric)));
		if (token == WJB_END_ARRAY)
			return float_array(floats, (Size) n);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("cannot cast nbmf value of kind %s to real[]", nbmf_kind_name(frame.kind)),
			 errdetail("Only vectors and JSON arrays of numbers can be cast to real[].")));
}
