/*
 * nbmf_defer.c
 *		Leaving the compression of a value to the row trigger that it goes to.
 *
 * On its way into a column under care a value is made twice: the cast or input
 * function does not know where the value will go and compresses it by itself,
 * and the row trigger takes that apart again to use the column's dictionary.
 * The first costs more than all the rest.  So a call site of a cast or input
 * function (an expression of a statement, a column of COPY) remembers its last
 * value, and the trigger says which values it has taken over.  If the last one
 * was, the next is made without compression, for the trigger to do it.
 *
 * This is a guess from one row to the next, and it costs little if it is wrong:
 * the value stays uncompressed, which changes nothing but its size, and the
 * site does not guess again.  It is made only where a value can go to one place:
 * casts that an INSERT or UPDATE has put in by itself to assign to a column, and
 * COPY, from row to row of one command.  What somebody casts aloud, or keeps in a
 * variable, may go to two tables, and only one of them have a trigger.
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/primnodes.h"
#include "utils/memutils.h"

#include "compat.h"
#include "type/type.h"

/* Values that are remembered: as many casts as a row has columns, about */
#define RING 16

typedef struct Emission
{
	uint64 serial;
	uint32 checksum;
	Size raw_len;
	bool deferred; /* it was not compressed */
	bool taken;
} Emission;

/* What a call site keeps in fn_extra */
typedef struct Site
{
	uint64 serial;     /* of its last value */
	CommandId command; /* that it was made in */
	bool deferred;     /* that value was not compressed */
	bool never;        /* a guess was wrong */
} Site;

static Emission ring[RING];
static uint64 last_serial = 0;

/*
 * Level for the next value of a call site: the given one, which is 0 where the
 * column's type says nothing, or NBMF_LEVEL_STORE.
 */
int
nbmf_defer_level(FunctionCallInfo fcinfo, int level)
{
	Site *site = fcinfo->flinfo != NULL ? fcinfo->flinfo->fn_extra : NULL;
	const Emission *last;

	if (site == NULL || site->never || level != 0 || site->command != GetCurrentCommandId(false))
		return level;
	last = &ring[site->serial % RING];
	if (last->serial == site->serial && last->taken)
		return NBMF_LEVEL_STORE;
	site->never = site->deferred;
	return level;
}

/*
 * Do the values of a call go to a column and nowhere else?
 */
static bool
is_assignment(const FmgrInfo *call)
{
	const FuncExpr *cast = (const FuncExpr *) call->fn_expr;

	/* an input function, called for COPY */
	if (cast == NULL)
		return true;

	return IsA(cast, FuncExpr) && cast->funcformat == COERCE_IMPLICIT_CAST;
}

/*
 * Remember the value that a call site has made at the level nbmf_defer_level
 * gave; returns it.
 */
Nbmf *
nbmf_defer_note(FunctionCallInfo fcinfo, int level, Nbmf *value)
{
	FmgrInfo *call = fcinfo->flinfo;
	Site *site;
	Emission *emission;
	NbmfFrame frame;
	Size frame_len;

	if (call == NULL || level > 0 || !is_assignment(call) ||
		nbmf_value_parse(PointerGetDatum(value), &frame, &frame_len) != NBMF_OK)
		return value;
	if (call->fn_extra == NULL)
		call->fn_extra = MemoryContextAllocZero(call->fn_mcxt, sizeof(Site));
	site = call->fn_extra;
	site->serial = ++last_serial;
	site->command = GetCurrentCommandId(false);
	site->deferred = level == NBMF_LEVEL_STORE;
	emission = &ring[site->serial % RING];
	emission->serial = site->serial;
	emission->checksum = frame.checksum;
	emission->raw_len = frame.raw_len;
	emission->deferred = site->deferred;
	emission->taken = false;
	return value;
}

/*
 * A row trigger has a value: is it one of those that were made last and left to
 * be compressed?  more says that the trigger will encode it anew in any case, so
 * that the next from the same place may be left to it.
 */
bool
nbmf_defer_take(const NbmfFrame *frame, bool more)
{
	for (int i = 0; i < RING; i++)
	{
		Emission *emission = &ring[(last_serial - (uint64) i) % RING];

		if (emission->serial != 0 && !emission->taken && emission->checksum == frame->checksum &&
			emission->raw_len == frame->raw_len)
		{
			emission->taken = more;
			return emission->deferred;
		}
	}
	return false;
}
