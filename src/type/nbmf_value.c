/*
 * nbmf_value.c
 *		Content to nbmf datum and back: the edge between the codec room, which
 *		knows no server, and the rest of the type.
 *
 * Everything here runs in the caller's memory context.  libzstd's contexts
 * live in one workspace per backend and outlive transactions; no error can
 * leave one in use, because nothing is thrown while libzstd runs.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "stats/stats.h"
#include "type/type.h"

StaticAssertDecl(NBMF_CONTENT_MAX + NBMF_FRAME_HEADER_MAX + VARHDRSZ <= MaxAllocSize,
				 "a frame of any content fits a varlena");

/*
 * A compression context over this size is given back after use.  Up to level
 * 9 none reaches it on documents of a megabyte.
 */
#define WORKSPACE_KEEP ((Size) 16 * 1024 * 1024)

/* Encoded into a buffer larger than this, a value is cut down to its size. */
#define SHRINK_FROM ((Size) 8 * 1024)

static int nbmf_zstd_level = 3;

static NbmfWorkspace workspace;

/*
 * Raise the error that a damaged value deserves.
 */
void
nbmf_report_damage(NbmfStatus status, const NbmfFrame *frame)
{
	switch (status)
	{
		case NBMF_ERR_OBJECT:
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("cannot read nbmf value without shared object %u", frame->object),
					 errdetail("The table nbmf.object has no row with that id."),
					 errhint("Restore that row from a backup; nbmf_verify_table() finds the "
							 "values that need it.")));
			break;
		case NBMF_ERR_OBJECT_DAMAGED:
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("shared object %u is damaged", frame->object),
					 errdetail("It belongs to %s.", nbmf_object_owner(frame->object)),
					 errhint("Restore that row of nbmf.object from a backup; nbmf_verify_table() "
							 "finds the values that need it.")));
			break;
		case NBMF_ERR_RESERVED:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot read nbmf value"),
					 errdetail_internal("%s", nbmf_status_text(status)),
					 errhint("Update the nbmf library if a newer version wrote the value; "
							 "otherwise the value is damaged.")));
			break;
		case NBMF_ERR_MEMORY:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
							errdetail("Failed to create a zstd context.")));
			break;
		case NBMF_ERR_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("value is too large for type nbmf"),
					 errdetail("The content of a value, and its text, can be at most %zu bytes.",
							   (size_t) NBMF_CONTENT_MAX)));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED), errmsg("nbmf value is damaged"),
					 errdetail_internal("%s", nbmf_status_text(status)),
					 errhint("Find every damaged value of a table with nbmf_verify_table().")));
			break;
	}
	pg_unreachable();
}

/*
 * Size on disk of a value with a frame of this length: values that fit get a
 * 1-byte varlena header when they become part of a tuple.
 */
Size
nbmf_stored_size(Size frame_len)
{
	if (frame_len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
		return frame_len + VARHDRSZ_SHORT;
	return frame_len + VARHDRSZ;
}

/* Under which codec an operation on a frame is counted */
static NbmfStatsCodec
stats_codec(const NbmfFrame *frame)
{
	switch (frame->codec)
	{
		case NBMF_CODEC_DICT:
		case NBMF_CODEC_DICT_BLOCK:
		case NBMF_CODEC_DICT_BLOCKS:
			return NBMF_STATS_DICTIONARY;
		case NBMF_CODEC_NEURAL:
		case NBMF_CODEC_NEURAL_BASE:
		case NBMF_CODEC_NEURAL_LONG:
			return NBMF_STATS_NEURAL;
		default:
			return NBMF_STATS_PLAIN;
	}
}

/* The error that an interrupt threw while a value was being encoded */
static ErrorData *interrupt_error = NULL;

/*
 * Serve what interrupts there are, between two steps of the core.  An error is
 * kept, to be thrown by nbmf_throw_interrupt when the core has returned; true
 * says so.
 */
bool
nbmf_serve_interrupts(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool stop = false;

	if (!INTERRUPTS_PENDING_CONDITION())
		return false;
	PG_TRY();
	{
		CHECK_FOR_INTERRUPTS();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		interrupt_error = CopyErrorData();
		FlushErrorState();
		stop = true;
	}
	PG_END_TRY();
	return stop;
}

void
nbmf_throw_interrupt(void)
{
	ErrorData *error = interrupt_error;

	interrupt_error = NULL;
	ReThrowError(error);
}

/*
 * Decode a frame that was just made with a dictionary, and raise an error if it
 * does not give the content back: a fault in this library or in libzstd, which
 * must not reach a table.
 */
static void
check_encoding(const char *made, Size made_len, const NbmfDict *dict, const char *content, Size len)
{
	NbmfObjects objects = {.dict = dict};
	NbmfFrame frame;
	NbmfStatus status;
	char *decoded = NULL;

	status = nbmf_frame_parse(made, made_len, made_len, &frame);
	if (status == NBMF_OK)
	{
		decoded = palloc(Max(frame.raw_len, 1));
		status = nbmf_decode(&workspace, &objects, made, made_len, decoded, frame.raw_len, &frame);
	}
	if (status != NBMF_OK || frame.raw_len != len || memcmp(decoded, content, len) != 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("nbmf value does not decode to what was encoded"),
						errdetail("Object %u; %s", frame.object, nbmf_status_text(status))));
	pfree(decoded);
}

/*
 * Most content of a kind: its text must not be over the limit either, or the
 * value could go in but not come out.
 */
static Size
content_limit(NbmfKind kind)
{
	switch (kind)
	{
		case NBMF_KIND_BYTEA:
			return (NBMF_CONTENT_MAX - 2) / 2;
		case NBMF_KIND_VECTOR:
			return NBMF_CONTENT_MAX / FLOAT_SHORTEST_DECIMAL_LEN * sizeof(float4);
		case NBMF_KIND_TEXT:
		case NBMF_KIND_JSON:
			break;
	}
	return NBMF_CONTENT_MAX;
}

/*
 * Encode content as a new value.  level 0 stands for nbmf.zstd_level,
 * NBMF_LEVEL_STORE for no compression.
 */
Nbmf *
nbmf_value_make(NbmfKind kind, const char *content, Size len, int level)
{
	return nbmf_value_encode(kind, NBMF_TIER_L1, content, len, level, (NbmfObjectIds){0, 0});
}

/*
 * A value that holds its content as it is, until somebody encodes it; so it is
 * not counted as encoded.
 */
static Nbmf *
store_content(NbmfKind kind, const char *content, Size len)
{
	NbmfFrame frame = {.kind = kind,
					   .tier = NBMF_TIER_L1,
					   .codec = NBMF_CODEC_STORED,
					   .checksum = nbmf_checksum(content, len)};
	Size header_len = nbmf_frame_header_len(NBMF_CODEC_STORED, 0, len);
	Nbmf *value = palloc(VARHDRSZ + header_len + len);

	SET_VARSIZE(value, VARHDRSZ + header_len + len);
	nbmf_frame_write_header((uint8 *) VARDATA(value), &frame);
	memcpy(VARDATA(value) + header_len, content, len);
	return value;
}

/*
 * Encode content, with a dictionary and a model where there are: the smallest
 * frame wins.
 *
 * What zstd makes by itself is trusted.  Every frame that anything else made was
 * decoded and compared before it is stored: that of a model by nbmf_encode, which
 * otherwise takes the one that zstd has made, that of a dictionary here.
 */
Nbmf *
nbmf_value_encode(NbmfKind kind, NbmfTier tier, const char *content, Size len, int level,
				  NbmfObjectIds objects)
{
	NbmfEncodeParams params = {.kind = kind,
							   .tier = tier,
							   .level = level != 0 ? level : nbmf_zstd_level,
							   .interrupted = nbmf_serve_interrupts};
	NbmfFrame frame = {.object = objects.dictionary};
	NbmfStatsTimer timer;
	NbmfStatus status;
	Size cap;
	size_t frame_len;
	Nbmf *value;

	if (len > content_limit(kind))
	{
		nbmf_stats_error(NBMF_STATS_PLAIN, NBMF_STATS_ENCODE);
		nbmf_report_damage(NBMF_ERR_TOO_LARGE, NULL);
	}
	if (level == NBMF_LEVEL_STORE)
		return store_content(kind, content, len);

	if (objects.dictionary != 0)
	{
		status = nbmf_dict_for_encode(objects.dictionary, params.level, &params.dict);
		if (status != NBMF_OK)
			nbmf_report_damage(status, &frame);
	}
	if (objects.model != 0)
	{
		frame.object = objects.model;
		status = nbmf_model_for(objects.model, &params.model);
		if (status != NBMF_OK)
			nbmf_report_damage(status, &frame);
	}

	nbmf_stats_start(NBMF_STATS_ENCODE, &timer);
	cap = nbmf_encode_bound(len);
	value = palloc(VARHDRSZ + cap);
	status = nbmf_encode(&workspace, &params, content, len, VARDATA(value), cap, &frame_len);
	if (len > NBMF_CHUNK)
		nbmf_workspace_trim(&workspace, WORKSPACE_KEEP);
	if (status == NBMF_ERR_INTERRUPTED)
		nbmf_throw_interrupt();
	if (status != NBMF_OK)
	{
		nbmf_stats_error(NBMF_STATS_PLAIN, NBMF_STATS_ENCODE);
		nbmf_report_damage(status, &frame);
	}
	(void) nbmf_frame_parse(VARDATA(value), frame_len, frame_len, &frame);
	if (nbmf_codec_has_dict(frame.codec))
		check_encoding(VARDATA(value), frame_len, params.dict, content, len);
	SET_VARSIZE(value, VARHDRSZ + frame_len);
	if (cap > SHRINK_FROM)
		value = repalloc(value, VARHDRSZ + frame_len);
	nbmf_stats_stop(stats_codec(&frame), NBMF_STATS_ENCODE, &timer, len,
					nbmf_stored_size(frame_len));
	return value;
}

/*
 * The value that a text stands for.  This is the only place that says which
 * kind a text is; the kind is a function of the text and of nothing else.
 */
Nbmf *
nbmf_value_from_text(const char *text, Size len, int level)
{
	float4 *floats;
	int n;

	if (nbmf_hex_valid(text, len))
	{
		Size bytes_len = (len - 2) / 2;
		char *bytes = palloc(Max(bytes_len, 1));
		Nbmf *value;

		hex_decode(text + 2, len - 2, bytes);
		value = nbmf_value_make(NBMF_KIND_BYTEA, bytes, bytes_len, level);
		pfree(bytes);
		return value;
	}
	if (nbmf_vector_parse(text, len, &floats, &n))
	{
		Nbmf *value = nbmf_value_from_floats(floats, n, level);

		pfree(floats);
		return value;
	}
	if (nbmf_json_valid(text, len))
		return nbmf_value_make(NBMF_KIND_JSON, text, len, level);
	return nbmf_value_make(NBMF_KIND_TEXT, text, len, level);
}

/*
 * A vector from its float4s; there must be at least one.  The array is changed
 * to what is stored.
 */
Nbmf *
nbmf_value_from_floats(float4 *floats, int n, int level)
{
	for (int i = 0; i < n; i++)
	{
		uint32 bits;

		/* text has one NaN; equal texts must have equal content */
		if (isnan(floats[i]))
			bits = 0x7fc00000;
		else
			memcpy(&bits, &floats[i], sizeof(bits));
#ifdef WORDS_BIGENDIAN
		bits = pg_bswap32(bits);
#endif
		memcpy(&floats[i], &bits, sizeof(bits));
	}
	return nbmf_value_make(NBMF_KIND_VECTOR, (char *) floats, n * sizeof(float4), level);
}

/*
 * The same value, encoded at another level; the smaller of the two frames.
 */
Nbmf *
nbmf_value_reencode(Nbmf *value, int level)
{
	NbmfFrame frame;
	char *content = nbmf_value_decode(value, 0, &frame);
	Nbmf *result = nbmf_value_make(frame.kind, content, frame.raw_len, level);

	pfree(content);
	if (VARSIZE_ANY_EXHDR(result) < VARSIZE_ANY_EXHDR(value))
		return result;
	pfree(result);
	return value;
}

/*
 * Does the decoded content keep what its kind promises to the rest of the
 * server?  Only a forged frame does not: damage does not survive the checksum.
 */
static bool
content_is_sound(const NbmfFrame *frame, const char *content)
{
	switch (frame->kind)
	{
		case NBMF_KIND_TEXT:
		case NBMF_KIND_JSON:
			return pg_verifymbstr(content, (int) frame->raw_len, true);
		case NBMF_KIND_BYTEA:
		case NBMF_KIND_VECTOR:
			break;
	}
	return true;
}

/*
 * Decode a value; its content starts lead bytes into the palloc'd result (so
 * that callers have room for a header of their own) and has a zero behind it.
 * Damage is returned, not thrown.
 */
NbmfStatus
nbmf_value_try_decode(Nbmf *value, Size lead, NbmfFrame *frame, char **result)
{
	Size frame_len = VARSIZE_ANY_EXHDR(value);
	NbmfObjects objects = {NULL, NULL};
	NbmfStatsTimer timer;
	NbmfStatus status;

	nbmf_stats_start(NBMF_STATS_DECODE, &timer);
	status = nbmf_frame_parse(VARDATA_ANY(value), frame_len, frame_len, frame);
	if (status == NBMF_OK && frame->object != 0)
	{
		if (nbmf_codec_has_model(frame->codec))
			status = nbmf_model_for(frame->object, &objects.model);
		else
			status = nbmf_dict_for_decode(frame->object, &objects.dict);
	}
	if (status == NBMF_OK)
	{
		*result = palloc(lead + frame->raw_len + 1);
		status = nbmf_decode(&workspace, &objects, VARDATA_ANY(value), frame_len, *result + lead,
							 frame->raw_len, frame);
		if (status == NBMF_OK && !content_is_sound(frame, *result + lead))
			status = NBMF_ERR_CONTENT;
		if (status != NBMF_OK)
			pfree(*result);
	}
	if (status != NBMF_OK)
	{
		nbmf_stats_error(stats_codec(frame), NBMF_STATS_DECODE);
		return status;
	}
	(*result)[lead + frame->raw_len] = '\0';
	nbmf_stats_stop(stats_codec(frame), NBMF_STATS_DECODE, &timer, frame->raw_len,
					nbmf_stored_size(frame_len));
	return NBMF_OK;
}

char *
nbmf_value_decode(Nbmf *value, Size lead, NbmfFrame *frame)
{
	char *result;
	NbmfStatus status = nbmf_value_try_decode(value, lead, frame, &result);

	if (status != NBMF_OK)
		nbmf_report_damage(status, frame);
	return result;
}

/*
 * Is the value whole?  NBMF_OK, or what is wrong with it.
 */
NbmfStatus
nbmf_value_check(Nbmf *value, NbmfFrame *frame)
{
	char *content;
	NbmfStatus status = nbmf_value_try_decode(value, 0, frame, &content);

	if (status == NBMF_OK)
	{
		if (frame->kind == NBMF_KIND_JSON && !nbmf_json_valid(content, frame->raw_len))
			status = NBMF_ERR_CONTENT;
		pfree(content);
	}
	return status;
}

/*
 * The text of a value, lead bytes into the palloc'd result, zero-terminated.
 */
char *
nbmf_value_text(Nbmf *value, Size lead, Size *text_len)
{
	NbmfFrame frame;
	char *content;
	char *text = NULL;

	content = nbmf_value_decode(value, lead, &frame);
	switch (frame.kind)
	{
		case NBMF_KIND_TEXT:
		case NBMF_KIND_JSON:
			*text_len = frame.raw_len;
			return content;
		case NBMF_KIND_BYTEA:
			*text_len = frame.raw_len * 2 + 2;
			if (lead + *text_len + 1 > MaxAllocSize)
				nbmf_report_damage(NBMF_ERR_TOO_LARGE, NULL);
			text = palloc(lead + *text_len + 1);
			text[lead] = '\\';
			text[lead + 1] = 'x';
			hex_encode(content + lead, frame.raw_len, text + lead + 2);
			text[lead + *text_len] = '\0';
			break;
		case NBMF_KIND_VECTOR:
			text = nbmf_vector_text(content + lead, frame.raw_len, lead, text_len);
			break;
	}
	pfree(content);
	return text;
}

/*
 * Parse the header of a value that may be toasted, reading no more of it than
 * its first bytes.
 */
NbmfStatus
nbmf_value_parse(Datum datum, NbmfFrame *frame, Size *frame_len)
{
	struct varlena *attr = (struct varlena *) DatumGetPointer(datum);
	struct varlena *slice = attr;
	NbmfStatus status;

	if (VARATT_IS_EXTERNAL(attr) || VARATT_IS_COMPRESSED(attr))
	{
		*frame_len = toast_raw_datum_size(datum) - VARHDRSZ;
		slice = PG_DETOAST_DATUM_SLICE(datum, 0, NBMF_FRAME_HEADER_MAX);
	}
	else
		*frame_len = VARSIZE_ANY_EXHDR(attr);
	status = nbmf_frame_parse(VARDATA_ANY(slice), VARSIZE_ANY_EXHDR(slice), *frame_len, frame);
	if (slice != attr)
		pfree(slice);
	return status;
}

void
nbmf_value_frame(Datum datum, NbmfFrame *frame)
{
	Size frame_len;
	NbmfStatus status = nbmf_value_parse(datum, frame, &frame_len);

	if (status != NBMF_OK)
		nbmf_report_damage(status, frame);
}

/*
 * The same, with length and checksum of the content where the header does not
 * say them: then the value is decoded.
 */
void
nbmf_value_whole_frame(Datum datum, NbmfFrame *frame)
{
	Nbmf *value;

	nbmf_value_frame(datum, frame);
	if (frame->complete)
		return;
	value = DatumGetNbmfPP(datum);
	pfree(nbmf_value_decode(value, 0, frame));
	if ((Pointer) value != DatumGetPointer(datum))
		pfree(value);
}

void
nbmf_type_init(void)
{
	DefineCustomIntVariable("nbmf.zstd_level", "Compression level for new nbmf values.",
							"Used where the column's type names none, as nbmf(lossless, 17) does.",
							&nbmf_zstd_level, 3, NBMF_LEVEL_MIN, NBMF_LEVEL_MAX, PGC_USERSET, 0,
							NULL, NULL, NULL);
}
