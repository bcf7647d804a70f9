/*
 * cas_key.c
 *		The types nbmf_key and nbmf_ball, and the operators of the index.
 *
 * A key is what the index knows of a content: its digest and its fingerprint.
 * A ball is the fingerprints within a distance of one.  Both are plain bytes
 * of a fixed size and work without the value that they were made from.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "cas/cas.h"
#include "crypto/crypto.h"
#include "type/type.h"

PG_FUNCTION_INFO_V1(nbmf_key_in);
PG_FUNCTION_INFO_V1(nbmf_key_out);
PG_FUNCTION_INFO_V1(nbmf_key_recv);
PG_FUNCTION_INFO_V1(nbmf_key_send);
PG_FUNCTION_INFO_V1(nbmf_key);
PG_FUNCTION_INFO_V1(nbmf_key_self);
PG_FUNCTION_INFO_V1(nbmf_key_eq);
PG_FUNCTION_INFO_V1(nbmf_key_ne);
PG_FUNCTION_INFO_V1(nbmf_key_hash);
PG_FUNCTION_INFO_V1(nbmf_key_hash_extended);
PG_FUNCTION_INFO_V1(nbmf_ball_in);
PG_FUNCTION_INFO_V1(nbmf_ball_out);
PG_FUNCTION_INFO_V1(nbmf_ball_recv);
PG_FUNCTION_INFO_V1(nbmf_ball_send);
PG_FUNCTION_INFO_V1(nbmf_ball);
PG_FUNCTION_INFO_V1(nbmf_key_ball);
PG_FUNCTION_INFO_V1(nbmf_simhash);
PG_FUNCTION_INFO_V1(nbmf_key_simhash);
PG_FUNCTION_INFO_V1(nbmf_distance);
PG_FUNCTION_INFO_V1(nbmf_key_distance);
PG_FUNCTION_INFO_V1(nbmf_near);
PG_FUNCTION_INFO_V1(nbmf_key_near);
PG_FUNCTION_INFO_V1(nbmf_in_ball);
PG_FUNCTION_INFO_V1(nbmf_key_in_ball);

/*
 * Making keys
 */

static uint64
simhash_of(Nbmf *value)
{
	NbmfFrame frame;
	NbmfFingerprint fingerprint;
	char *content = nbmf_value_decode(value, 0, &frame);

	nbmf_fingerprint(frame.kind, content, frame.raw_len, &fingerprint);
	pfree(content);
	return fingerprint.simhash;
}

/*
 * The key of a value.  Values are equal when their texts are, so what has the
 * same bytes but another text (see nbmf_compare.c) gets another digest.
 */
void
nbmf_cas_key_of(Datum datum, NbmfKey *key)
{
	Nbmf *value = DatumGetNbmfPP(datum);
	NbmfFrame frame;
	NbmfFingerprint fingerprint;
	uint8 digest[NBMF_SHA256_LEN];
	char *content = nbmf_value_decode(value, 0, &frame);

	if (!nbmf_sha256(content, frame.raw_len, digest))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("could not compute SHA-256 digest"),
						errhint("Check that OpenSSL's configuration offers SHA-256.")));
	nbmf_fingerprint(frame.kind, content, frame.raw_len, &fingerprint);
	memcpy(key->digest, digest, sizeof(key->digest));
	key->digest[15] ^= frame.kind == NBMF_KIND_JSON ? NBMF_KIND_TEXT : frame.kind;
	key->simhash = fingerprint.simhash;
	key->second = fingerprint.second;
	pfree(content);
	if ((Pointer) value != DatumGetPointer(datum))
		pfree(value);
}

Datum
nbmf_key(PG_FUNCTION_ARGS)
{
	NbmfKey *key = palloc(sizeof(NbmfKey));

	nbmf_cas_key_of(PG_GETARG_DATUM(0), key);
	PG_RETURN_POINTER(key);
}

/* Support function of the operator class of keys */
Datum
nbmf_key_self(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/*
 * The largest distance at which the similarity, 1 - distance / 64, is still at
 * least the threshold.
 */
int
nbmf_cas_distance_of(double threshold)
{
	/* not a number fails the test, too */
	if (!(threshold >= 0.5 && threshold <= 1.0))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("similarity threshold %g is out of range", threshold),
						errhint("Valid thresholds are 0.5 to 1.")));
	return (int) ((1.0 - threshold) * 64 + 1e-9);
}

/*
 * Text
 */

static bool
hex_digits(const char **text, int digits, uint64 *value)
{
	*value = 0;
	for (int i = 0; i < digits; i++)
	{
		char c = *(*text);
		int digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		else
			return false;
		*value = *value << 4 | (uint64) digit;
		(*text)++;
	}
	return true;
}

/*
 * digest:simhash[:second]
 */
Datum
nbmf_key_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	const char *p = text;
	NbmfKey *key = palloc0(sizeof(NbmfKey));
	uint64 halves[2];
	bool ok;

	ok = hex_digits(&p, 16, &halves[0]) && hex_digits(&p, 16, &halves[1]) && *p++ == ':' &&
		 hex_digits(&p, 16, &key->simhash);
	if (ok && *p == ':')
	{
		p++;
		ok = hex_digits(&p, 16, &key->second);
	}
	if (!ok || *p != '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("invalid input syntax for type %s: \"%s\"", "nbmf_key", text),
						errdetail("It is 32 hexadecimal digits of digest, 16 of simhash and 16 of "
								  "the second fingerprint, with colons between.")));
	halves[0] = pg_hton64(halves[0]);
	halves[1] = pg_hton64(halves[1]);
	memcpy(key->digest, halves, sizeof(key->digest));
	PG_RETURN_POINTER(key);
}

Datum
nbmf_key_out(PG_FUNCTION_ARGS)
{
	const NbmfKey *key = PG_GETARG_NBMF_KEY(0);
	uint64 halves[2];

	memcpy(halves, key->digest, sizeof(halves));
	PG_RETURN_CSTRING(
		psprintf("%016llx%016llx:%016llx:%016llx", (unsigned long long) pg_ntoh64(halves[0]),
				 (unsigned long long) pg_ntoh64(halves[1]), (unsigned long long) key->simhash,
				 (unsigned long long) key->second));
}

Datum
nbmf_key_recv(PG_FUNCTION_ARGS)
{
	StringInfo buffer = (StringInfo) PG_GETARG_POINTER(0);
	NbmfKey *key = palloc(sizeof(NbmfKey));

	memcpy(key->digest, pq_getmsgbytes(buffer, sizeof(key->digest)), sizeof(key->digest));
	key->simhash = (uint64) pq_getmsgint64(buffer);
	key->second = (uint64) pq_getmsgint64(buffer);
	PG_RETURN_POINTER(key);
}

Datum
nbmf_key_send(PG_FUNCTION_ARGS)
{
	const NbmfKey *key = PG_GETARG_NBMF_KEY(0);
	StringInfoData buffer;

	pq_begintypsend(&buffer);
	pq_sendbytes(&buffer, (const char *) key->digest, sizeof(key->digest));
	pq_sendint64(&buffer, key->simhash);
	pq_sendint64(&buffer, key->second);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}

static NbmfBall *
make_ball(uint64 simhash, int64 distance)
{
	NbmfBall *ball = palloc0(sizeof(NbmfBall));

	if (distance < 0 || distance > 64)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("distance %lld of type nbmf_ball is out of range", (long long) distance),
				 errhint("Valid distances are 0 to 64.")));
	ball->simhash = simhash;
	ball->distance = (int32) distance;
	return ball;
}

/*
 * simhash,distance
 */
Datum
nbmf_ball_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	const char *p = text;
	uint64 simhash;
	char *end;
	long distance;

	if (!hex_digits(&p, 16, &simhash) || *p != ',' || p[1] < '0' || p[1] > '9' ||
		(distance = strtol(p + 1, &end, 10), *end != '\0'))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("invalid input syntax for type %s: \"%s\"", "nbmf_ball", text),
						errdetail("It is 16 hexadecimal digits of simhash, a comma, and a "
								  "distance from 0 to 64.")));
	PG_RETURN_POINTER(make_ball(simhash, distance));
}

Datum
nbmf_ball_out(PG_FUNCTION_ARGS)
{
	const NbmfBall *ball = PG_GETARG_NBMF_BALL(0);

	PG_RETURN_CSTRING(psprintf("%016llx,%d", (unsigned long long) ball->simhash, ball->distance));
}

Datum
nbmf_ball_recv(PG_FUNCTION_ARGS)
{
	StringInfo buffer = (StringInfo) PG_GETARG_POINTER(0);
	uint64 simhash = (uint64) pq_getmsgint64(buffer);

	PG_RETURN_POINTER(make_ball(simhash, (int32) pq_getmsgint(buffer, 4)));
}

Datum
nbmf_ball_send(PG_FUNCTION_ARGS)
{
	const NbmfBall *ball = PG_GETARG_NBMF_BALL(0);
	StringInfoData buffer;

	pq_begintypsend(&buffer);
	pq_sendint64(&buffer, ball->simhash);
	pq_sendint32(&buffer, ball->distance);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}

/* nbmf_ball(value, threshold) */
Datum
nbmf_ball(PG_FUNCTION_ARGS)
{
	int distance = nbmf_cas_distance_of(PG_GETARG_FLOAT8(1));

	PG_RETURN_POINTER(make_ball(simhash_of(PG_GETARG_NBMF_PP(0)), distance));
}

Datum
nbmf_key_ball(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(
		make_ball(PG_GETARG_NBMF_KEY(0)->simhash, nbmf_cas_distance_of(PG_GETARG_FLOAT8(1))));
}

/*
 * Equality and hash of keys.  Equal contents have equal fingerprints; of keys that
 * are made otherwise the fingerprint counts, too, because the index finds by it.
 */
static bool
keys_equal(const NbmfKey *a, const NbmfKey *b)
{
	return a->simhash == b->simhash && memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

Datum
nbmf_key_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(keys_equal(PG_GETARG_NBMF_KEY(0), PG_GETARG_NBMF_KEY(1)));
}

Datum
nbmf_key_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!keys_equal(PG_GETARG_NBMF_KEY(0), PG_GETARG_NBMF_KEY(1)));
}

Datum
nbmf_key_hash(PG_FUNCTION_ARGS)
{
	return hash_any(PG_GETARG_NBMF_KEY(0)->digest, 16);
}

Datum
nbmf_key_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_any_extended(PG_GETARG_NBMF_KEY(0)->digest, 16, (uint64) PG_GETARG_INT64(1));
}

/*
 * Distances.  An operator's right side is the same for many rows, so the
 * fingerprint of the last one is kept.
 */

typedef struct LastValue
{
	Size len;
	Size room;
	char *bytes;
	uint64 simhash;
} LastValue;

static uint64
simhash_of_right(FunctionCallInfo fcinfo, Nbmf *value)
{
	LastValue *last = fcinfo->flinfo != NULL ? fcinfo->flinfo->fn_extra : NULL;
	Size len = VARSIZE_ANY_EXHDR(value);

	if (fcinfo->flinfo == NULL)
		return simhash_of(value);
	if (last != NULL && last->len == len && memcmp(last->bytes, VARDATA_ANY(value), len) == 0)
		return last->simhash;
	if (last == NULL)
	{
		last = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(LastValue));
		fcinfo->flinfo->fn_extra = last;
	}
	/* whatever happens below, half of an entry must not be found */
	last->len = 0;
	if (last->room < Max(len, 1))
	{
		if (last->bytes != NULL)
			pfree(last->bytes);
		last->bytes = NULL;
		last->room = 0;
		last->bytes = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, Max(len, 1));
		last->room = Max(len, 1);
	}
	last->simhash = simhash_of(value);
	memcpy(last->bytes, VARDATA_ANY(value), len);
	last->len = len;
	return last->simhash;
}

static int
distance_of_values(FunctionCallInfo fcinfo)
{
	Nbmf *left = PG_GETARG_NBMF_PP(0);
	Nbmf *right = PG_GETARG_NBMF_PP(1);
	int distance = nbmf_fingerprint_distance(simhash_of(left), simhash_of_right(fcinfo, right));

	PG_FREE_IF_COPY(left, 0);
	PG_FREE_IF_COPY(right, 1);
	return distance;
}

static int
distance_of_keys(FunctionCallInfo fcinfo)
{
	return nbmf_fingerprint_distance(PG_GETARG_NBMF_KEY(0)->simhash,
									 PG_GETARG_NBMF_KEY(1)->simhash);
}

Datum
nbmf_simhash(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) simhash_of(PG_GETARG_NBMF_PP(0)));
}

Datum
nbmf_key_simhash(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) PG_GETARG_NBMF_KEY(0)->simhash);
}

Datum
nbmf_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance_of_values(fcinfo));
}

Datum
nbmf_key_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance_of_keys(fcinfo));
}

Datum
nbmf_near(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(distance_of_values(fcinfo) <= NBMF_CAS_NEAR_DISTANCE);
}

Datum
nbmf_key_near(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(distance_of_keys(fcinfo) <= NBMF_CAS_NEAR_DISTANCE);
}

Datum
nbmf_in_ball(PG_FUNCTION_ARGS)
{
	Nbmf *value = PG_GETARG_NBMF_PP(0);
	const NbmfBall *ball = PG_GETARG_NBMF_BALL(1);
	int distance = nbmf_fingerprint_distance(simhash_of(value), ball->simhash);

	PG_FREE_IF_COPY(value, 0);
	PG_RETURN_BOOL(distance <= ball->distance);
}

Datum
nbmf_key_in_ball(PG_FUNCTION_ARGS)
{
	const NbmfBall *ball = PG_GETARG_NBMF_BALL(1);

	PG_RETURN_BOOL(nbmf_fingerprint_distance(PG_GETARG_NBMF_KEY(0)->simhash, ball->simhash) <=
				   ball->distance);
}
