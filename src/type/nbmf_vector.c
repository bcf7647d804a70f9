/*
 * nbmf_vector.c
 *		Between the float4s of a vector and its text, which is the text that a
 *		real[] with the same elements has: {0.1,-2,3e+20}.
 *
 * A text counts as a vector only if it is exactly what would come out again,
 * so that reading it as a vector loses nothing.  Elements are printed with the
 * shortest digits that give the float back, whatever extra_float_digits says.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"

#include "type/type.h"

/* Elements between looks at pending interrupts */
#define INTERRUPT_STEP 4096

/* A vector's text has at least two bytes per element */
#define VECTOR_DIM_MAX (NBMF_CONTENT_MAX / sizeof(float4))

/*
 * One element at *pos, which is moved behind it.  False if the text there is
 * not what some float4 prints as.
 */
static bool
parse_element(const char **pos, const char *end, float4 *result)
{
	const char *start = *pos;
	const char *p = start;
	char token[FLOAT_SHORTEST_DECIMAL_LEN];
	char printed[FLOAT_SHORTEST_DECIMAL_LEN];
	char *parsed_end;
	int len;

	while (p < end && *p != ',' && *p != '}')
		if (++p - start >= FLOAT_SHORTEST_DECIMAL_LEN)
			return false;
	if (p == start || p == end)
		return false;
	len = (int) (p - start);
	memcpy(token, start, len);
	token[len] = '\0';
	*result = strtof(token, &parsed_end);
	if (*parsed_end != '\0')
		return false;
	if (float_to_shortest_decimal_bufn(*result, printed) != len || memcmp(token, printed, len) != 0)
		return false;
	*pos = p;
	return true;
}

/*
 * Is the text that of a vector?  If so, its elements are returned in a
 * palloc'd array.
 */
bool
nbmf_vector_parse(const char *text, Size len, float4 **floats, int *n)
{
	const char *p = text + 1;
	const char *end = text + len;
	float4 *result;
	Size count = 0;
	Size room = 64;

	/* cheap: JSON objects and prose end here */
	if (len < 3 || text[0] != '{' || end[-1] != '}' || strchr("-0123456789NI", *p) == NULL)
		return false;

	result = palloc(room * sizeof(float4));
	while (parse_element(&p, end, &result[count]))
	{
		count++;
		if (count % INTERRUPT_STEP == 0)
			CHECK_FOR_INTERRUPTS();
		if (*p == '}' && p + 1 == end)
		{
			*floats = result;
			*n = (int) count;
			return true;
		}
		if (*p++ == '}' || count == VECTOR_DIM_MAX)
			break;
		if (count == room)
		{
			room = Min(room * 2, VECTOR_DIM_MAX);
			result = repalloc(result, room * sizeof(float4));
		}
	}
	pfree(result);
	return false;
}

/*
 * The text of stored float4s (little-endian, unaligned), lead bytes into the
 * palloc'd result, zero-terminated.
 */
char *
nbmf_vector_text(const char *floats, Size floats_len, Size lead, Size *text_len)
{
	StringInfoData buf;
	Size n = floats_len / sizeof(float4);

	initStringInfo(&buf);
	for (Size i = 0; i < lead; i++)
		appendStringInfoChar(&buf, '\0');
	for (Size i = 0; i < n; i++)
	{
		uint32 bits;
		float4 element;

		if (i % INTERRUPT_STEP == 0)
			CHECK_FOR_INTERRUPTS();
		memcpy(&bits, floats + i * sizeof(float4), sizeof(bits));
#ifdef WORDS_BIGENDIAN
		bits = pg_bswap32(bits);
#endif
		memcpy(&element, &bits, sizeof(element));
		enlargeStringInfo(&buf, 1 + FLOAT_SHORTEST_DECIMAL_LEN);
		buf.data[buf.len++] = i == 0 ? '{' : ',';
		buf.len += float_to_shortest_decimal_bufn(element, buf.data + buf.len);
	}
	appendStringInfoChar(&buf, '}');
	*text_len = buf.len - lead;
	return buf.data;
}
