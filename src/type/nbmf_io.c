/*
 * nbmf_io.c
 *		Text and binary input and output.
 *
 * The text of a value is its content as the type it came from would print it.
 * The binary form is self-contained, and does not depend on how the value is
 * stored here:
 *
 *	OFFSET	SIZE	MEANING
 *	0		1		version, 1
 *	1		1		kind: 0 text, 1 json, 2 bytea, 3 vector
 *	2		rest	text and json: the text, in the client's encoding
 *					bytea: the bytes
 *					vector: float4s, big-endian
 */
#include "postgres.h"

#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "type/type.h"

#define BINARY_VERSION 1

PG_FUNCTION_INFO_V1(nbmf_in);
PG_FUNCTION_INFO_V1(nbmf_out);
PG_FUNCTION_INFO_V1(nbmf_recv);
PG_FUNCTION_INFO_V1(nbmf_send);

/*
 * Is this the type nbmf?  Asked of its input function, because neither the
 * type's name nor its schema says so for certain.
 */
bool
nbmf_is_type(Oid type)
{
	Oid input;
	Oid param;
	FmgrInfo finfo;

	if (!OidIsValid(type))
		return false;
	getTypeInputInfo(type, &input, &param);
	fmgr_info(input, &finfo);
	return finfo.fn_addr == nbmf_in;
}

Datum
nbmf_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);
	int level = nbmf_defer_level(fcinfo, nbmf_typmod_level(PG_GETARG_INT32(2)));

	PG_RETURN_NBMF_P(
		nbmf_defer_note(fcinfo, level, nbmf_value_from_text(text, strlen(text), level)));
}

Datum
nbmf_out(PG_FUNCTION_ARGS)
{
	Size len;

	PG_RETURN_CSTRING(nbmf_value_text(PG_GETARG_NBMF_PP(0), 0, &len));
}

/*
 * Text from the message, of either textual kind.  A sender that says "json"
 * must send JSON; json_in's error names the place that is wrong.
 */
static Nbmf *
recv_text(StringInfo buf, NbmfKind kind, int level)
{
	int len;
	char *text = pq_getmsgtext(buf, buf->len - buf->cursor, &len);

	if (kind == NBMF_KIND_JSON && !nbmf_json_valid(text, len))
		(void) DirectFunctionCall1(json_in, CStringGetDatum(text));
	return nbmf_value_from_text(text, len, level);
}

static Nbmf *
recv_vector(StringInfo buf, int level)
{
	int len = buf->len - buf->cursor;
	int n = len / (int) sizeof(float4);
	float4 *floats;

	if (n == 0 || len % sizeof(float4) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("invalid length of vector in external nbmf value"),
						errdetail("%d bytes are not one or more float4 values.", len)));
	floats = palloc(len);
	for (int i = 0; i < n; i++)
		floats[i] = pq_getmsgfloat4(buf);
	return nbmf_value_from_floats(floats, n, level);
}

Datum
nbmf_recv(PG_FUNCTION_ARGS)
{
	StringInfo buf = (StringInfo) PG_GETARG_POINTER(0);
	int level = nbmf_typmod_level(PG_GETARG_INT32(2));
	int version = pq_getmsgbyte(buf);
	int kind;

	if (version != BINARY_VERSION)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("unsupported version %d of external nbmf value", version),
						errhint("Send version %d, or use the text format.", BINARY_VERSION)));
	kind = pq_getmsgbyte(buf);
	switch (kind)
	{
		case NBMF_KIND_TEXT:
		case NBMF_KIND_JSON:
			PG_RETURN_NBMF_P(recv_text(buf, (NbmfKind) kind, level));
		case NBMF_KIND_BYTEA:
		{
			int len = buf->len - buf->cursor;
			const char *bytes = pq_getmsgbytes(buf, len);

			PG_RETURN_NBMF_P(nbmf_value_make(NBMF_KIND_BYTEA, bytes, len, level));
		}
		case NBMF_KIND_VECTOR:
			PG_RETURN_NBMF_P(recv_vector(buf, level));
		default:
			ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
							errmsg("unknown kind %d in external nbmf value", kind)));
	}
	pg_unreachable();
}

Datum
nbmf_send(PG_FUNCTION_ARGS)
{
	NbmfFrame frame;
	char *content = nbmf_value_decode(PG_GETARG_NBMF_PP(0), 0, &frame);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, BINARY_VERSION);
	pq_sendbyte(&buf, (uint8) frame.kind);
	switch (frame.kind)
	{
		case NBMF_KIND_TEXT:
		case NBMF_KIND_JSON:
			pq_sendtext(&buf, content, (int) frame.raw_len);
			break;
		case NBMF_KIND_BYTEA:
			pq_sendbytes(&buf, content, (int) frame.raw_len);
			break;
		case NBMF_KIND_VECTOR:
			for (Size i = 0; i < frame.raw_len; i += sizeof(uint32))
			{
				uint32 bits;

				memcpy(&bits, content + i, sizeof(bits));
#ifdef WORDS_BIGENDIAN
				bits = pg_bswap32(bits);
#endif
				pq_sendint32(&buf, bits);
			}
			break;
	}
	pfree(content);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
