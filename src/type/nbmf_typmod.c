/*
 * nbmf_typmod.c
 *		Type modifiers: nbmf(lossless), nbmf(semantic), nbmf(semantic, 17).
 *
 * A modifier holds the mode in bits 8-15 and the level in bits 0-7, 0 for
 * none.  It governs how new values are encoded and never changes a value.
 * Semantic mode allows later versions to apply error-bounded loss; this
 * version encodes it without loss, and nbmf_info() says so.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "type/type.h"

#define TYPMOD_MODE(typmod) (((typmod) >> 8) & 0xff)

PG_FUNCTION_INFO_V1(nbmf_typmod_in);
PG_FUNCTION_INFO_V1(nbmf_typmod_out);
PG_FUNCTION_INFO_V1(nbmf_coerce);
PG_FUNCTION_INFO_V1(nbmf_coerce_support);

static const char *
mode_name(NbmfMode mode)
{
	return mode == NBMF_MODE_SEMANTIC ? "semantic" : "lossless";
}

NbmfMode
nbmf_mode_from_name(const char *name)
{
	if (pg_strcasecmp(name, mode_name(NBMF_MODE_LOSSLESS)) == 0)
		return NBMF_MODE_LOSSLESS;
	if (pg_strcasecmp(name, mode_name(NBMF_MODE_SEMANTIC)) == 0)
		return NBMF_MODE_SEMANTIC;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid mode \"%s\" for type nbmf", name),
					errhint("Valid modes are \"lossless\" and \"semantic\".")));
}

int
nbmf_check_level(int level)
{
	if (level < NBMF_LEVEL_MIN || level > NBMF_LEVEL_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("level %d of type nbmf is out of range", level),
						errhint("Valid levels are %d to %d.", NBMF_LEVEL_MIN, NBMF_LEVEL_MAX)));
	return level;
}

static int
level_from_text(const char *text)
{
	char *end;
	long level = strtol(text, &end, 10);

	if (end == text || *end != '\0' || level != (int) level)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid level \"%s\" for type nbmf", text),
						errhint("Valid levels are %d to %d.", NBMF_LEVEL_MIN, NBMF_LEVEL_MAX)));
	return nbmf_check_level((int) level);
}

Datum
nbmf_typmod_in(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum *elements;
	int n;
	NbmfMode mode;
	int level = 0;

	/* the parser hands over a one-dimensional cstring[] without nulls */
	deconstruct_array(array, CSTRINGOID, -2, false, TYPALIGN_CHAR, &elements, NULL, &n);
	if (n < 1 || n > 2)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid type modifier for type nbmf"),
			 errhint("Write nbmf(mode) or nbmf(mode, level), for example nbmf(lossless, 17).")));
	mode = nbmf_mode_from_name(DatumGetCString(elements[0]));
	if (n == 2)
		level = level_from_text(DatumGetCString(elements[1]));
	PG_RETURN_INT32((int32) mode << 8 | level);
}

Datum
nbmf_typmod_out(PG_FUNCTION_ARGS)
{
	int32 typmod = PG_GETARG_INT32(0);
	const char *mode = mode_name((NbmfMode) TYPMOD_MODE(typmod));
	int level = nbmf_typmod_level(typmod);

	if (typmod < 0)
		PG_RETURN_CSTRING(pstrdup(""));
	if (level == 0)
		PG_RETURN_CSTRING(psprintf("(%s)", mode));
	PG_RETURN_CSTRING(psprintf("(%s,%d)", mode, level));
}

/*
 * The length coercion cast: nbmf to nbmf(mode, level).
 *
 * A modifier without level asks for nothing that the value does not have.
 */
Datum
nbmf_coerce(PG_FUNCTION_ARGS)
{
	int level = nbmf_typmod_level(PG_GETARG_INT32(1));

	if (level == 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_NBMF_P(nbmf_value_reencode(PG_GETARG_NBMF_PP(0), level));
}

/*
 * Planner support for nbmf_coerce: leave it out where it would do nothing,
 * which also spares ALTER TABLE .. TYPE a rewrite of the table.
 */
Datum
nbmf_coerce_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	Node *result = NULL;

	if (IsA(request, SupportRequestSimplify))
	{
		FuncExpr *call = ((SupportRequestSimplify *) request)->fcall;
		Node *value = (Node *) linitial(call->args);
		Node *typmod = (Node *) lsecond(call->args);

		if (IsA(typmod, Const) && !((Const *) typmod)->constisnull)
		{
			int32 to = DatumGetInt32(((Const *) typmod)->constvalue);
			int level = nbmf_typmod_level(to);

			if (level == 0 || level == nbmf_typmod_level(exprTypmod(value)))
				result = (Node *) makeRelabelType((Expr *) copyObject(value), exprType(value), to,
												  InvalidOid, COERCE_IMPLICIT_CAST);
		}
	}
	PG_RETURN_POINTER(result);
}
