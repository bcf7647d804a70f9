/*
 * nbmf_inspect.c
 *		Looking at one value: nbmf_info, nbmf_kind, nbmf_digest, nbmf_verify.
 *
 * nbmf_info and nbmf_kind read the header only, of a toasted value the first
 * TOAST chunk.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crypto/crypto.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_info);
PG_FUNCTION_INFO_V1(nbmf_kind);
PG_FUNCTION_INFO_V1(nbmf_digest);
PG_FUNCTION_INFO_V1(nbmf_verify);

Datum
nbmf_info(PG_FUNCTION_ARGS)
{
	Datum datum = PG_GETARG_DATUM(0);
	TupleDesc tupdesc;
	Datum values[10];
	bool nulls[10] = {0};
	NbmfFrame frame;
	Size frame_len;
	Size stored;
	NbmfStatus status;
	int i = 0;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	status = nbmf_value_parse(datum, &frame, &frame_len);
	if (status != NBMF_OK)
		nbmf_report_damage(status, &frame);
	if (!frame.complete)
		nbmf_value_whole_frame(datum, &frame);
	stored = nbmf_stored_size(frame_len);

	values[i++] = CStringGetTextDatum(nbmf_kind_name(frame.kind));
	/* no value that this version reads has lost anything */
	values[i++] = CStringGetTextDatum("lossless");
	values[i++] = CStringGetTextDatum(nbmf_tier_name(frame.tier));
	values[i++] = CStringGetTextDatum(nbmf_codec_name(frame.codec));
	values[i++] = Int64GetDatum((int64) frame.raw_len);
	values[i++] = Int64GetDatum((int64) stored);
	values[i++] = Float8GetDatum((double) frame.raw_len / (double) stored);
	values[i++] = CStringGetTextDatum(psprintf("%08x", frame.checksum));
	values[i++] = PointerGetDatum(construct_empty_array(TEXTOID));
	nulls[i] = frame.object == 0;
	values[i++] = UInt32GetDatum(frame.object);
	Assert(i == tupdesc->natts);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

Datum
nbmf_kind(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;

	nbmf_value_frame(PG_GETARG_DATUM(0), &frame);
	PG_RETURN_TEXT_P(cstring_to_text(nbmf_kind_name(frame.kind)));
}

/*
 * SHA-256 of the content: of the text for text and json, of the bytes for
 * bytea, of the little-endian float4s for vectors.
 */
Datum
nbmf_digest(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;
	char *content = nbmf_value_decode(PG_GETARG_NBMF_PP(0), 0, &frame);
	bytea *result = palloc(VARHDRSZ + NBMF_SHA256_LEN);

	SET_VARSIZE(result, VARHDRSZ + NBMF_SHA256_LEN);
	if (!nbmf_sha256(content, frame.raw_len, (uint8 *) VARDATA(result)))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("could not compute SHA-256 digest"),
						errhint("Check that OpenSSL's configuration offers SHA-256.")));
	pfree(content);
	PG_RETURN_BYTEA_P(result);
}

/*
 * Does the value decode to the content it was made from?  Damage that keeps
 * the value or its shared object from being fetched at all (a missing TOAST
 * chunk, say) is raised.
 */
Datum
nbmf_verify(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;
	NbmfStatus status = nbmf_value_check(PG_GETARG_NBMF_PP(0), &frame);

	/* which says nothing about the value */
	if (status == NBMF_ERR_MEMORY)
		nbmf_report_damage(status, NULL);
	PG_RETURN_BOOL(status == NBMF_OK);
}
