/*
 * nbmf_cast.c
 *		Casts to and from text, json, jsonb, bytea and real[], and the function
 *		nbmf_encode, which is the casts to nbmf with mode and level said aloud.
 *
 * The casts to nbmf take the column's modifier themselves, so that an
 * assignment encodes once, at the right level.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

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
	PG_RETURN_NBMF_P(text_to_nbmf(PG_GETARG_TEXT_PP(0), nbmf_typmod_level(PG_GETARG_INT32(1))));
}

Datum
nbmf_from_jsonb(PG_FUNCTION_ARGS)
{
	PG_RETURN_NBMF_P(jsonb_to_nbmf(PG_GETARG_JSONB_P(0), nbmf_typmod_level(PG_GETARG_INT32(1))));
}

Datum
nbmf_from_bytea(PG_FUNCTION_ARGS)
{
	PG_RETURN_NBMF_P(bytea_to_nbmf(PG_GETARG_BYTEA_PP(0), nbmf_typmod_level(PG_GETARG_INT32(1))));
}

Datum
nbmf_from_floats(PG_FUNCTION_ARGS)
{
	PG_RETURN_NBMF_P(
		floats_to_nbmf(PG_GETARG_ARRAYTYPE_P(0), nbmf_typmod_level(PG_GETARG_INT32(1))));
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
 * json keeps the exact text.  json_in is only asked when the text is not one
 * that we know to be JSON: it says what is wrong, and where.
 */
Datum
nbmf_to_json(PG_FUNCTION_ARGS)
{
	Size len;
	char *result = nbmf_value_text(PG_GETARG_NBMF_PP(0), VARHDRSZ, &len);

	if (!nbmf_json_valid(result + VARHDRSZ, len))
		(void) DirectFunctionCall1(json_in, CStringGetDatum(result + VARHDRSZ));
	SET_VARSIZE(result, VARHDRSZ + len);
	PG_RETURN_TEXT_P(result);
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
float_array(float4 *floats, int n)
{
	Datum *elements = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		elements[i] = Float4GetDatum(floats[i]);
	return PointerGetDatum(
		construct_array(elements, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
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
		int n = (int) (frame.raw_len / sizeof(float4));

#ifdef WORDS_BIGENDIAN
		for (int i = 0; i < n; i++)
		{
			uint32 bits;

			memcpy(&bits, content + i * sizeof(bits), sizeof(bits));
			bits = pg_bswap32(bits);
			memcpy(content + i * sizeof(bits), &bits, sizeof(bits));
		}
#endif
		PG_RETURN_DATUM(float_array((float4 *) content, n));
	}
	if (frame.kind == NBMF_KIND_JSON && strcmp(content, "{}") == 0)
		PG_RETURN_DATUM(float_array(NULL, 0));
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
			PG_RETURN_DATUM(float_array(floats, n));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("cannot cast nbmf value of kind %s to real[]", nbmf_kind_name(frame.kind)),
			 errdetail("Only vectors and JSON arrays of numbers can be cast to real[].")));
}
