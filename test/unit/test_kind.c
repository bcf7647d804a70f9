/*
 * test_kind.c
 *		nbmf_json_valid and nbmf_hex_valid, which decide a text's kind and are
 *		therefore frozen: a case here may be added, but never turned round.
 *
 * Every text is handed over in memory of exactly its size and without a zero
 * behind it, so that sanitizers see a byte too many being read.
 */
#include "unit.h"

#include "json_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Literals with their length, because some have zeros inside */
#define TEXT(literal)                \
	{                                \
		literal, sizeof(literal) - 1 \
	}

typedef struct Text
{
	const char *text;
	size_t len;
} Text;

static bool quick_run;

static bool
json_valid(const void *text, size_t len)
{
	char *copy = exact_copy(text, len);
	bool valid = nbmf_json_valid(copy, len);

	free(copy);
	return valid;
}

static bool
hex_valid(const void *text, size_t len)
{
	char *copy = exact_copy(text, len);
	bool valid = nbmf_hex_valid(copy, len);

	free(copy);
	return valid;
}

/* The text of a case, fit for a line of output */
static const char *
shown(const char *text, size_t len)
{
	static char line[121];
	size_t used = 0;

	for (size_t i = 0; i < len && used < sizeof(line) - 5; i++)
	{
		unsigned char c = (unsigned char) text[i];

		used += (size_t) sprintf(line + used, c < 0x20 || c > 0x7e ? "\\x%02x" : "%c", c);
	}
	line[used] = '\0';
	return line;
}

static void
check_json(const Text *cases, size_t count, bool expected)
{
	for (size_t i = 0; i < count; i++)
	{
		CHECK(json_valid(cases[i].text, cases[i].len) == expected, "%s",
			  shown(cases[i].text, cases[i].len));
		/* keep the second opinion honest as well */
		CHECK(reference_json_valid(cases[i].text, cases[i].len) == expected, "reference: %s",
			  shown(cases[i].text, cases[i].len));
	}
}

static void
json_accepted(void)
{
	static const Text cases[] = {
		/* any value at the top level, white space around it */
		TEXT("0"),
		TEXT("-0"),
		TEXT("7"),
		TEXT("\"\""),
		TEXT("\"a\""),
		TEXT("true"),
		TEXT("false"),
		TEXT("null"),
		TEXT("[]"),
		TEXT("{}"),
		TEXT(" null"),
		TEXT("null "),
		TEXT("\t\n\r [] \r\n\t"),
		TEXT("[ ]"),
		TEXT("{ }"),
		TEXT("{\n}"),
		TEXT("[\t\r\n]"),

		/* numbers */
		TEXT("10"),
		TEXT("-1"),
		TEXT("-10"),
		TEXT("1234567890"),
		TEXT("0.0"),
		TEXT("-0.0"),
		TEXT("0.5"),
		TEXT("1.000"),
		TEXT("10.01"),
		TEXT("0e0"),
		TEXT("0E0"),
		TEXT("0e+0"),
		TEXT("0e-0"),
		TEXT("1e00"),
		TEXT("1E+007"),
		TEXT("1.5e-10"),
		TEXT("-1.5E9"),
		TEXT("1e9999999999999999999"),
		TEXT("0.00000000000000000000000000000000000000001"),
		TEXT("123456789012345678901234567890123456789012345678901234567890"),
		TEXT("[0,-0,1]"),
		TEXT("[1 ,2]"),
		TEXT("[1\n]"),
		TEXT("{\"a\":0}"),
		TEXT("1 "),

		/* strings */
		TEXT("\"\\\"\""),
		TEXT("\"\\\\\""),
		TEXT("\"\\/\""),
		TEXT("\"/\""),
		TEXT("\"\\b\\f\\n\\r\\t\""),
		TEXT("\"\\u0000\""),
		TEXT("\"\\u0041\""),
		TEXT("\"\\uabcd\\uABCD\\uaBcD\""),
		TEXT("\"\\ud83d\\ude00\""),
		TEXT("\"\\ud800\""),
		TEXT("\"\\ude00\\ud83d\""),
		TEXT("\"\\uffff\""),
		TEXT("\"\\u00410\""),
		TEXT("\"\\\\u12\""),
		TEXT("\" \""),
		TEXT("\"\x7f\""),
		TEXT("\"\xc3\xa9\""),
		TEXT("\"\xf0\x9f\x98\x80\""),
		TEXT("\"\xe2\x80\xa8\xe2\x80\xa9\""),
		TEXT("\"\xef\xbb\xbf\""),
		TEXT("\"\x80\xff\xfe\""),
		TEXT("\"'\""),
		TEXT("\"a/*b*/c\""),
		TEXT("\"[\""),
		TEXT("\"}\""),
		TEXT("\",\""),
		TEXT("\"\\\\\\\\\""),
		TEXT("\"\\\\\\\"\""),

		/* arrays and objects */
		TEXT("[1]"),
		TEXT("[[]]"),
		TEXT("[[],[]]"),
		TEXT("[{}]"),
		TEXT("[[[[[[[[]]]]]]]]"),
		TEXT("[null,true,false,0,\"\",[],{}]"),
		TEXT("[ 1 , 2 ]"),
		TEXT("[\"a\" , \"b\"]"),
		TEXT("{\"\":0}"),
		TEXT("{\"a\":1}"),
		TEXT("{\"a\" : 1}"),
		TEXT("{ \"a\":1 , \"b\":2 }"),
		TEXT("{\"a\":1,\"a\":2}"),
		TEXT("{\"a\":{}}"),
		TEXT("{\"a\":[]}"),
		TEXT("{\"a\":{\"a\":{\"a\":{}}}}"),
		TEXT("{\"\\u0000\":1}"),
		TEXT("{\"a\\\"b\":1}"),
		TEXT("{\"a\":[{\"b\":[{}]}]}"),
		TEXT("[[1],{\"a\":[2]},[3]]"),
		TEXT("{\"a\":\"b\",\"c\":[\"d\",{\"e\":null}]}"),
		TEXT("{\"\":{}}"),
		TEXT("[{},[]]"),
		TEXT("[[],{}]"),
		TEXT("{\"a\":[],\"b\":{}}"),
	};

	check_json(cases, COUNT(cases), true);
}

static void
json_rejected(void)
{
	static const Text cases[] = {
		/* no value, or more than one */
		TEXT(""),
		TEXT(" "),
		TEXT("\n"),
		TEXT("1 2"),
		TEXT("1,2"),
		TEXT("[] []"),
		TEXT("{}{}"),
		TEXT("[]]"),
		TEXT("{}}"),
		TEXT("\"a\"\"b\""),
		TEXT("null,"),
		TEXT(",null"),
		TEXT("[],"),
		TEXT("truefalse"),
		TEXT("true1"),
		TEXT("1true"),
		TEXT("\"\"0"),
		TEXT("0\"\""),
		TEXT("[]0"),

		/* not white space */
		TEXT("\f1"),
		TEXT("\v1"),
		TEXT("1\f"),
		TEXT("[\v]"),
		TEXT("\xc2\xa0[]"),
		TEXT("[]\xc2\xa0"),
		TEXT("\xef\xbb\xbf{}"),
		TEXT("[\xe2\x81\xa0]"),
		TEXT("1\0"),
		TEXT("\0001"),
		TEXT("[1\0]"),
		TEXT("[]\0"),
		TEXT("\0"),
		TEXT("{}\0 "),
		TEXT("//\n1"),
		TEXT("/**/1"),
		TEXT("1//"),
		TEXT("{\"a\":1}//"),
		TEXT("#1"),
		TEXT("[1/**/]"),

		/* words */
		TEXT("nul"),
		TEXT("nulll"),
		TEXT("Null"),
		TEXT("NULL"),
		TEXT("True"),
		TEXT("TRUE"),
		TEXT("tru"),
		TEXT("t"),
		TEXT("f"),
		TEXT("n"),
		TEXT("fals"),
		TEXT("falsE"),
		TEXT("undefined"),
		TEXT("NaN"),
		TEXT("nan"),
		TEXT("Infinity"),
		TEXT("-Infinity"),
		TEXT("inf"),
		TEXT("-inf"),
		TEXT("a"),
		TEXT("[a]"),
		TEXT("[nul]"),
		TEXT("nu\0l"),
		TEXT("*"),
		TEXT("\xff"),
		TEXT("\xc3\xa9"),

		/* numbers */
		TEXT("-"),
		TEXT("+"),
		TEXT("+1"),
		TEXT("--1"),
		TEXT("-a"),
		TEXT("- 1"),
		TEXT("-\"\""),
		TEXT("00"),
		TEXT("01"),
		TEXT("-00"),
		TEXT("-01"),
		TEXT("-012"),
		TEXT("012.5"),
		TEXT("."),
		TEXT(".5"),
		TEXT("-.5"),
		TEXT("5."),
		TEXT("-5."),
		TEXT("0."),
		TEXT("1.e1"),
		TEXT("0.e1"),
		TEXT("1..2"),
		TEXT("1.2.3"),
		TEXT("1.-2"),
		TEXT("1.+2"),
		TEXT("e1"),
		TEXT("1e"),
		TEXT("1E"),
		TEXT("1e+"),
		TEXT("1e-"),
		TEXT("1e+-1"),
		TEXT("1ee1"),
		TEXT("1e1e1"),
		TEXT("1e1.5"),
		TEXT("1e 1"),
		TEXT("1 e1"),
		TEXT("1.e"),
		TEXT("0x1"),
		TEXT("0X1f"),
		TEXT("0b1"),
		TEXT("0o7"),
		TEXT("1_000"),
		TEXT("1,000"),
		TEXT("1L"),
		TEXT("1f"),
		TEXT("1."),
		TEXT("1. "),
		TEXT("1e "),
		TEXT("0e"),
		TEXT("0e+"),
		TEXT("\xef\xbc\x91"),
		TEXT("1\xef\xbc\x91"),
		TEXT("[-]"),
		TEXT("[1.]"),
		TEXT("[1e]"),
		TEXT("[0 1]"),
		TEXT("[-01]"),
		TEXT("1-"),
		TEXT("1+1"),
		TEXT("0-1"),

		/* strings */
		TEXT("\""),
		TEXT("\"a"),
		TEXT("a\""),
		TEXT("'a'"),
		TEXT("'"),
		TEXT("\"\\\""),
		TEXT("\"\\"),
		TEXT("\"\\\\\\\""),
		TEXT("\"\\a\""),
		TEXT("\"\\v\""),
		TEXT("\"\\0\""),
		TEXT("\"\\x41\""),
		TEXT("\"\\'\""),
		TEXT("\"\\ \""),
		TEXT("\"\\\n\""),
		TEXT("\"\\N\""),
		TEXT("\"\\U0041\""),
		TEXT("\"\\u\""),
		TEXT("\"\\u1\""),
		TEXT("\"\\u12\""),
		TEXT("\"\\u123\""),
		TEXT("\"\\u123"),
		TEXT("\"\\u1234"),
		TEXT("\"\\u12g4\""),
		TEXT("\"\\ug234\""),
		TEXT("\"\\u1g34\""),
		TEXT("\"\\u123g\""),
		TEXT("\"\\u 123\""),
		TEXT("\"\\u-123\""),
		TEXT("\"\\u12\\u1234\""),
		TEXT("\"\\\0\""),
		TEXT("\"\0\""),
		TEXT("\"\x01\""),
		TEXT("\"\x1f\""),
		TEXT("\"\t\""),
		TEXT("\"\n\""),
		TEXT("\"\r\n\""),
		TEXT("\"a\nb\""),
		TEXT("\"abcdefgh\x1f\""),
		TEXT("\"\\\xc3\xa9\""),
		TEXT("\"\\\xff\""),
		TEXT("\xe2\x80\x9c"
			 "a\xe2\x80\x9d"),
		TEXT("\\u0022a\\u0022"),
		TEXT("\"\"\""),
		TEXT("[\"a]"),
		TEXT("[\"a"),
		TEXT("{\"a"),
		TEXT("{\"a\":\"b"),
		TEXT("\\\"\""),

		/* arrays */
		TEXT("["),
		TEXT("]"),
		TEXT("[1"),
		TEXT("1]"),
		TEXT("[1,"),
		TEXT("[,"),
		TEXT("[,]"),
		TEXT("[,1]"),
		TEXT("[1,]"),
		TEXT("[1,,2]"),
		TEXT("[1 2]"),
		TEXT("[1;2]"),
		TEXT("[1:2]"),
		TEXT("[\"a\":1]"),
		TEXT("[[]"),
		TEXT("[[1,2]"),
		TEXT("[}"),
		TEXT("[1}"),
		TEXT("[1}]"),
		TEXT("[[1}]"),
		TEXT("(1)"),
		TEXT("[]["),
		TEXT("[\"a\",\n4\n,1,"),
		TEXT("[[],"),
		TEXT("[]1]"),
		TEXT("[1]]"),
		TEXT("[,[]]"),
		TEXT("<>"),
		TEXT("[<null>]"),
		TEXT("[...]"),

		/* objects */
		TEXT("{"),
		TEXT("}"),
		TEXT("{]"),
		TEXT("{\"a\"}"),
		TEXT("{\"a\":}"),
		TEXT("{\"a\":1"),
		TEXT("{:1}"),
		TEXT("{1:1}"),
		TEXT("{a:1}"),
		TEXT("{'a':1}"),
		TEXT("{null:1}"),
		TEXT("{[]:1}"),
		TEXT("{{}:1}"),
		TEXT("{\"a\":1,}"),
		TEXT("{\"a\":1,,\"b\":2}"),
		TEXT("{,}"),
		TEXT("{,\"a\":1}"),
		TEXT("{\"a\",1}"),
		TEXT("{\"a\"::1}"),
		TEXT("{\"a\" 1}"),
		TEXT("{\"a\":1 \"b\":2}"),
		TEXT("{\"a\":1]"),
		TEXT("{\"a\":1:2}"),
		TEXT("{\"a\":\"b\":\"c\"}"),
		TEXT("{\"a\":1,2}"),
		TEXT("{\"a\":1,\"b\"}"),
		TEXT("{\"a\":1,\"b\":}"),
		TEXT("{\"a\":1,b:2}"),
		TEXT("{\"a\"=1}"),
		TEXT("{\"a\":1;}"),
		TEXT("{\"a\":[}"),
		TEXT("{\"a\":[1}"),
		TEXT("{\"a\":{]"),
		TEXT("{\"a\""),
		TEXT("{\"a\":"),
		TEXT("{ "),
		TEXT("{\"a\":1, "),
		TEXT("{\"a\" "),
		TEXT("[{]}"),
		TEXT("[{\"a\":1]}"),
		TEXT("{\"a\":a}"),
		TEXT("{\"a\":1}x"),
		TEXT("{\"a\\\":1}"),
		TEXT("{\"a\tb\":1}"),
		TEXT("{\"\\x\":1}"),
		TEXT("{\"a\":[],}"),
		TEXT("[{},]"),
		TEXT("[{}1]"),
		TEXT("{\"a\":{}1}"),
		TEXT("{\"a\":1,]"),
		TEXT("[{\"a\":1,]}"),
		TEXT("{\"a\":[1,\"b\":2]}"),
		TEXT("[1,\"b\":2]"),
	};

	check_json(cases, COUNT(cases), false);
}

/* A document that is open until its last byte has no valid beginning */
static void
json_prefixes(void)
{
	static const char document[] =
		"{\"role\": \"user\", \"n\": [-1.5e+10, 0, 12.25, true, false, null, {}, [], [{}]],"
		" \"\\u00e9\\n\\\\\": {\"text\": \"caf\xc3\xa9 \\\"quoted\\\"\", \"long\": \""
		"0123456789012345678901234567890123456789\", \"\": {\"deep\": [[[[{\"x\": 1}]]]]}}}";
	size_t len = sizeof(document) - 1;
	uint8_t *generated;

	CHECK(json_valid(document, len), "the whole document");
	for (size_t i = 0; i < len; i++)
		CHECK(!json_valid(document, i), "first %zu bytes", i);

	/* a longer one, and any one byte of it that is lost */
	generated = pattern_alloc(PATTERN_JSON, 1000);
	len = 1000;
	while (generated[len - 1] == ' ')
		len--;
	CHECK(json_valid(generated, 1000), "generated document");
	for (size_t i = 0; i < len; i++)
		CHECK(!json_valid(generated, i), "first %zu bytes of the generated document", i);
	free(generated);
}

/* Nest levels of opening text, something inside, and closing text */
static bool
nested_valid(size_t levels, const char *open, const char *inside, char close)
{
	size_t open_len = strlen(open);
	size_t inside_len = strlen(inside);
	size_t len = levels * (open_len + 1) + inside_len;
	char *text = exact_alloc(len);
	char *p = text;
	bool valid;

	for (size_t i = 0; i < levels; i++, p += open_len)
		memcpy(p, open, open_len);
	memcpy(p, inside, inside_len);
	memset(p + inside_len, close, levels);
	valid = nbmf_json_valid(text, len);
	CHECK(valid == reference_json_valid(text, len),
		  "%zu levels of %s with %s inside: not what the reference says", levels, open, inside);
	free(text);
	return valid;
}

static void
json_depth(void)
{
	const size_t most = NBMF_JSON_DEPTH_MAX;

	for (size_t levels = most - 70; levels <= most + 70; levels++)
	{
		CHECK(nested_valid(levels, "[", "1", ']') == (levels <= most), "%zu arrays", levels);
		CHECK(nested_valid(levels, "{\"a\":", "1", '}') == (levels <= most), "%zu objects", levels);
		CHECK(nested_valid(levels, "[0,", "\"\"", ']') == (levels <= most), "%zu arrays", levels);
	}
	CHECK(!nested_valid(100000, "[", "", ']'), "100000 arrays");
	CHECK(!nested_valid(100000, "{\"\":", "0", '}'), "100000 objects");
}

/* An empty array or object is a level like any other */
static void
json_depth_empty(void)
{
	const size_t most = NBMF_JSON_DEPTH_MAX;

	for (size_t levels = most - 2; levels <= most + 2; levels++)
	{
		CHECK(nested_valid(levels, "[", "", ']') == (levels <= most), "%zu arrays", levels);
		CHECK(nested_valid(levels - 1, "[", "{}", ']') == (levels <= most), "%zu levels", levels);
		CHECK(nested_valid(levels - 1, "{\"a\":", "[]", '}') == (levels <= most), "%zu levels",
			  levels);
	}
}

/*
 * The kinds of the open levels are kept as bits.  Nest arrays and objects in a
 * random order, close them rightly, and then close one of them wrongly; do it
 * after the bits have been used by something else at the same depth.
 */
static void
json_depth_kinds(void)
{
	uint64_t state = 1;

	for (int round = 0; round < 200; round++)
	{
		static const char open_object[] = "{\"a\":";
		size_t levels = 1 + (size_t) (random_next(&state) % 200);
		size_t used = 0;
		size_t wrong = (size_t) (random_next(&state) % levels);
		char closing[200];
		char text[3000];

		/* levels of the other kind first, all bits the same */
		text[used++] = '[';
		for (size_t i = 0; i < levels; i++)
		{
			if (round % 2 == 0)
				text[used++] = '[';
			else
			{
				memcpy(text + used, open_object, sizeof(open_object) - 1);
				used += sizeof(open_object) - 1;
			}
		}
		text[used++] = '1';
		memset(text + used, round % 2 == 0 ? ']' : '}', levels);
		used += levels;
		text[used++] = ',';

		for (size_t i = 0; i < levels; i++)
		{
			bool object = random_next(&state) >> 63;

			closing[levels - 1 - i] = object ? '}' : ']';
			if (object)
			{
				memcpy(text + used, open_object, sizeof(open_object) - 1);
				used += sizeof(open_object) - 1;
			}
			else
				text[used++] = '[';
		}
		text[used++] = '1';
		memcpy(text + used, closing, levels);
		used += levels;
		text[used] = ']';
		CHECK(json_valid(text, used + 1), "%s", shown(text, used + 1));

		text[used - levels + wrong] ^= ']' ^ '}';
		CHECK(!json_valid(text, used + 1), "%s", shown(text, used + 1));
	}
}

/*
 * Strings are scanned eight bytes at a time: put every byte value at every
 * place of strings of many lengths, starting at every alignment.
 */
static void
json_string_alignment(void)
{
	size_t step = quick_run ? 7 : 1;

	for (size_t lead = 0; lead < 8; lead++)
	{
		for (size_t len = 1; len <= 34; len += 1 + (len > 9 ? step : 0))
		{
			for (size_t at = 0; at < len; at++)
			{
				/* lead spaces, a quote, len letters, a quote */
				uint8_t text[8 + 1 + 34 + 1];

				memset(text, ' ', lead);
				memset(text + lead, 'z', len + 1);
				text[lead] = text[lead + 1 + len] = '"';
				for (unsigned value = 0; value < 256; value++)
				{
					/* what comes behind an escape is a z, which is no escape */
					bool expected = value >= 0x20 && value != '"' && value != '\\';

					text[lead + 1 + at] = (uint8_t) value;
					CHECK(json_valid(text, lead + len + 2) == expected,
						  "byte %02x at %zu of %zu, %zu spaces before", value, at, len, lead);
				}
			}
		}
	}
}

/* Bytes that differ from a special one by a bit or a borrow must not hide it */
static void
json_string_neighbours(void)
{
	static const uint8_t near[] = {0x00, 0x01, 0x1f, 0x20, 0x21, '"',  0x23, 0x5b, '\\',
								   0x5d, 0x7f, 0x80, 0x9f, 0xa0, 0xa2, 0xdc, 0xff};
	size_t step = quick_run ? 5 : 1;

	for (size_t a = 0; a < sizeof(near); a += step)
	{
		for (size_t b = 0; b < sizeof(near); b++)
		{
			for (size_t c = 0; c < sizeof(near); c++)
			{
				for (size_t at = 1; at <= 8; at++)
				{
					uint8_t text[20];

					memset(text, 'z', sizeof(text));
					text[0] = text[19] = '"';
					text[at] = near[a];
					text[at + 1] = near[b];
					text[at + 2] = near[c];
					CHECK(json_valid(text, sizeof(text)) ==
							  reference_json_valid(text, sizeof(text)),
						  "%s", shown((char *) text, sizeof(text)));
				}
			}
		}
	}
}

/* Documents with some bytes changed, dropped or doubled, against the reference */
static void
json_random(void)
{
	static const char bytes[] = "{}[]\",:\\/ \n\t0123456789.-+eEtrufalsn\"\"u\x01\x1f\x80";
	uint64_t state = 42;
	size_t valid = 0;
	size_t rounds = quick_run ? 20000 : 300000;

	for (size_t round = 0; round < rounds; round++)
	{
		char text[120] = "{\"a\":[1,-2.5e+3,true,false,null,\"x\\u00e9\\n\",{\"b\":{}},[]],\"c\":"
						 "\"0123456789abcdef\"}";
		size_t len = strlen(text);

		for (unsigned edits = 1 + (unsigned) (random_next(&state) >> 62); edits > 0; edits--)
		{
			size_t at = (size_t) (random_next(&state) % len);
			char byte = bytes[random_next(&state) % (sizeof(bytes) - 1)];

			switch (random_next(&state) >> 62)
			{
				case 0:
					memmove(text + at, text + at + 1, len - at - 1);
					len--;
					break;
				case 1:
					memmove(text + at + 1, text + at, len - at);
					len++;
					text[at] = byte;
					break;
				default:
					text[at] = byte;
					break;
			}
		}
		if (json_valid(text, len))
			valid++;
		CHECK(json_valid(text, len) == reference_json_valid(text, len), "%s", shown(text, len));
	}
	/* both outcomes must have been tried */
	CHECK(valid > rounds / 50 && valid < rounds / 2, "%zu of %zu valid", valid, rounds);
}

static void
hex_cases(void)
{
	static const Text accepted[] = {
		TEXT("\\x"), TEXT("\\x00"), TEXT("\\xff"), TEXT("\\x0123456789abcdef"), TEXT("\\xdeadbeef"),
	};
	static const Text rejected[] = {
		TEXT(""),        TEXT("\\"),      TEXT("x"),          TEXT("\\X"),    TEXT("/x"),
		TEXT("0x00"),    TEXT("\\X00"),   TEXT("\\x0"),       TEXT("\\x000"), TEXT("\\xFF"),
		TEXT("\\xfF"),   TEXT("\\xg0"),   TEXT("\\x0g"),      TEXT("\\x 00"), TEXT("\\x00 "),
		TEXT(" \\x00"),  TEXT("\\x00\n"), TEXT("\\x0 0"),     TEXT("xx"),     TEXT("\\\\"),
		TEXT("\\\\x00"), TEXT("\\x\\x"),  TEXT("\\x00\\x00"), TEXT("x\\00"),  TEXT("\\x\0"),
		TEXT("\\x0\0"),  TEXT("\\x/0"),   TEXT("\\x:0"),      TEXT("\\x`0"),  TEXT("\\x0:"),
		TEXT("\\x0@"),   TEXT("\\xA0"),   TEXT("0000"),       TEXT("\\u00"),
	};

	for (size_t i = 0; i < COUNT(accepted); i++)
	{
		CHECK(hex_valid(accepted[i].text, accepted[i].len), "%s",
			  shown(accepted[i].text, accepted[i].len));
		CHECK(reference_hex_valid(accepted[i].text, accepted[i].len), "reference: %zu", i);
	}
	for (size_t i = 0; i < COUNT(rejected); i++)
	{
		CHECK(!hex_valid(rejected[i].text, rejected[i].len), "%s",
			  shown(rejected[i].text, rejected[i].len));
		CHECK(!reference_hex_valid(rejected[i].text, rejected[i].len), "reference: %zu", i);
	}
}

static void
hex_bytes(void)
{
	char text[42];

	memset(text, '0', sizeof(text));
	text[0] = '\\';
	text[1] = 'x';
	for (size_t len = 0; len <= sizeof(text); len++)
		CHECK(hex_valid(text, len) == (len >= 2 && len % 2 == 0), "%zu bytes", len);
	for (size_t at = 0; at < sizeof(text); at++)
	{
		char before = text[at];

		for (unsigned value = 0; value < 256; value++)
		{
			bool expected = (value >= '0' && value <= '9') || (value >= 'a' && value <= 'f');

			if (at < 2)
				expected = value == (at == 0 ? '\\' : 'x');
			text[at] = (char) value;
			CHECK(hex_valid(text, sizeof(text)) == expected, "byte %02x at %zu", value, at);
		}
		text[at] = before;
	}
}

void
test_kind(bool quick)
{
	quick_run = quick;
	tap_run("json: accepted", json_accepted);
	tap_run("json: rejected", json_rejected);
	tap_run("json: every prefix of a document is rejected", json_prefixes);
	tap_run("json: nesting at and over the limit", json_depth);
	tap_run("json: nesting at and over the limit, nothing inside", json_depth_empty);
	tap_run("json: arrays and objects nested in any order", json_depth_kinds);
	tap_run("json: every byte at every place of a string", json_string_alignment);
	tap_run("json: special bytes side by side", json_string_neighbours);
	tap_run("json: random edits, against the reference", json_random);
	tap_run("hex: accepted and rejected", hex_cases);
	tap_run("hex: every byte at every place", hex_bytes);
}
