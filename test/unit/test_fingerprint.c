/*
 * test_fingerprint.c
 *		nbmf_fingerprint, whose bits are frozen: the golden file, the ways to
 *		compute it against each other, and what must and must not change them.  And
 *		nbmf_similarity, whose numbers follow from the same features.
 *
 * Distances that are asserted here are those of one frozen function on fixed
 * content; the bounds say what they should be at the least.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool quick_run;
static const char *golden_dir;

static NbmfFingerprint
fingerprint(NbmfKind kind, const void *content, size_t len)
{
	/* nothing behind it: sanitizers see a byte too many being read */
	uint8_t *copy = exact_copy(content, len);
	NbmfFingerprint best;

	nbmf_fingerprint(kind, copy, len, &best);
	for (int path = 0; path < NBMF_FINGERPRINT_PATHS; path++)
	{
		NbmfFingerprint f;

		if (nbmf_fingerprint_by((NbmfFingerprintPath) path, kind, copy, len, &f))
			CHECK(best.simhash == f.simhash && best.second == f.second,
				  "%s of %zu bytes: %016llx %016llx, by path %d %016llx %016llx",
				  nbmf_kind_name(kind), len, (unsigned long long) best.simhash,
				  (unsigned long long) best.second, path, (unsigned long long) f.simhash,
				  (unsigned long long) f.second);
		else
			CHECK(path != NBMF_FINGERPRINT_PLAIN, "no processor is too old");
	}
	free(copy);
	return best;
}

static int
distance(NbmfKind kind, const char *a, const char *b)
{
	return nbmf_fingerprint_distance(fingerprint(kind, a, strlen(a)).simhash,
									 fingerprint(kind, b, strlen(b)).simhash);
}

static double
similarity(NbmfKind kind, const char *a, const char *b)
{
	double there = nbmf_similarity(kind, a, strlen(a), b, strlen(b));

	CHECK(there == nbmf_similarity(kind, b, strlen(b), a, strlen(a)), "not symmetric: %s", a);
	CHECK(there >= 0 && there <= 1, "%f: %s", there, a);
	return there;
}

static bool
same(NbmfKind kind, const char *a, const char *b)
{
	NbmfFingerprint x = fingerprint(kind, a, strlen(a));
	NbmfFingerprint y = fingerprint(kind, b, strlen(b));

	return x.simhash == y.simhash && x.second == y.second;
}

static NbmfKind
kind_by_name(const char *name)
{
	for (int kind = NBMF_KIND_TEXT; kind <= NBMF_KIND_VECTOR; kind++)
		if (strcmp(name, nbmf_kind_name((NbmfKind) kind)) == 0)
			return (NbmfKind) kind;
	CHECK(false, "kind %s", name);
	return NBMF_KIND_TEXT;
}

static void
golden_lines(void)
{
	static char line[40000];
	char path[1000];
	int lines = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/fingerprints", golden_dir);
	file = fopen(path, "r");
	if (!CHECK(file != NULL, "%s cannot be opened", path))
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char *field[4];
		size_t len;
		uint8_t *content;
		NbmfFingerprint got;

		if (line[0] == '#')
			continue;
		lines++;
		field[0] = strtok(line, " \n");
		for (int i = 1; i < 4; i++)
			field[i] = strtok(NULL, " \n");
		if (!CHECK(field[3] != NULL, "line %d", lines))
			break;
		len = strcmp(field[1], "-") == 0 ? 0 : strlen(field[1]) / 2;
		content = exact_alloc(len);
		for (size_t i = 0; i < len; i++)
		{
			char digits[3] = {field[1][2 * i], field[1][2 * i + 1], '\0'};

			content[i] = (uint8_t) strtoul(digits, NULL, 16);
		}
		got = fingerprint(kind_by_name(field[0]), content, len);
		CHECK(got.simhash == strtoull(field[2], NULL, 16) &&
				  got.second == strtoull(field[3], NULL, 16),
			  "line %d, %s: %016llx %016llx, not %s %s", lines, field[0],
			  (unsigned long long) got.simhash, (unsigned long long) got.second, field[2],
			  field[3]);
		free(content);
	}
	fclose(file);
	CHECK(lines >= 90, "%d lines", lines);
}

/* All paths, on everything there is, as every kind */
static void
paths_agree(void)
{
	size_t most = quick_run ? 200 : 3000;
	uint64_t state = 11;

	for (int pattern = 0; pattern < PATTERNS; pattern++)
		for (size_t len = 2; len < most; len += 1 + len / 7)
		{
			uint8_t *content = pattern_alloc((Pattern) pattern, len);

			for (int kind = NBMF_KIND_TEXT; kind <= NBMF_KIND_VECTOR; kind++)
				fingerprint((NbmfKind) kind, content, len);
			free(content);
		}

	/* bytes that the rules for words and for JSON speak of, in any order */
	for (int i = 0; i < (quick_run ? 50 : 2000); i++)
	{
		static const char alphabet[] = "\xC2\xE2\xE3\xE9\xEF\x80\xBF\xC3 aZ_9.\"\\{}[]:,u0\n\x7F";
		uint8_t content[1500];
		size_t len = (size_t) (random_next(&state) % sizeof(content));

		for (size_t k = 0; k < len; k++)
			content[k] = (uint8_t) alphabet[random_next(&state) % (sizeof(alphabet) - 1)];
		for (int kind = NBMF_KIND_TEXT; kind <= NBMF_KIND_VECTOR; kind++)
			fingerprint((NbmfKind) kind, content, len);
	}
}

static void
json_form_does_not_matter(void)
{
	const char *plain = "{\"a\":1,\"b\":[true,null,{\"c\":\"x y z\"}],\"d\":{\"e\":[],\"f\":{}}}";

	CHECK(same(NBMF_KIND_JSON, plain,
			   " {\n\t\"d\" : { \"f\" : { } , \"e\":[ ]},\r\n \"b\":[true , null, { \"c\" : \"x y "
			   "z\"} "
			   "] ,\"a\": 1 }\n"),
		  "order of keys and white space");
	CHECK(same(NBMF_KIND_JSON, "{\"k\":\"caf\xC3\xA9 / \xF0\x9F\x98\x80 ok\"}",
			   "{\"\\u006b\":\"caf\\u00e9 \\/ \\ud83d\\uDE00 ok\"}"),
		  "escapes");
	CHECK(same(NBMF_KIND_JSON, "[1,2,3]", "[3,2,1,1]"), "order in arrays");
	CHECK(!same(NBMF_KIND_JSON, "{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":1}"), "values change places");
	CHECK(!same(NBMF_KIND_JSON, "{\"a\":\"1\"}", "{\"a\":1}"), "a string is no number");
	CHECK(!same(NBMF_KIND_JSON, "{\"a\":{}}", "{\"a\":[]}"), "an object is no array");
	CHECK(!same(NBMF_KIND_JSON, "{\"a\":{\"b\":1}}", "{\"b\":{\"a\":1}}"), "keys change places");
	CHECK(!same(NBMF_KIND_JSON, "{}", "[]"), "empty ones");
	CHECK(similarity(NBMF_KIND_JSON, plain, "[]") < 0.01, "nothing in common");
}

static void
text_form(void)
{
	CHECK(same(NBMF_KIND_TEXT, "Hello, world! (again)", "  hello WORLD...again\n"),
		  "case, white space and punctuation");
	CHECK(same(NBMF_KIND_TEXT,
			   "\xE2\x80\x9Cquoted\xE2\x80\x9D \xC2\xAB"
			   "a\xC2\xBB",
			   "\"quoted\" 'a'"),
		  "quotation marks");
	CHECK(similarity(NBMF_KIND_TEXT, "Hello, world!", "hello world") == 1, "equal words");
	CHECK(!same(NBMF_KIND_TEXT, "!!!", "???"), "contents without words");
	CHECK(!same(NBMF_KIND_TEXT, "", " "), "contents without words");
	CHECK(similarity(NBMF_KIND_TEXT, "!!!", "???") == 0, "contents without words");
	CHECK(distance(NBMF_KIND_TEXT, "", "") == 0, "empty");
	CHECK(similarity(NBMF_KIND_TEXT, "", "") == 1, "empty");
	CHECK(similarity(NBMF_KIND_TEXT, "", "a") == 0, "empty and not");
	CHECK(distance(NBMF_KIND_TEXT, "yes", "no") > 15, "one word each");
}

/* One of the words of long contents changes: the fingerprint hardly does */
static void
near_is_near(void)
{
	char a[4000];
	char b[4000];
	size_t len = 0;
	int near;

	for (int i = 0; i < 200; i++)
		len += (size_t) sprintf(a + len, "word%d ", i * i % 1009);
	memcpy(b, a, len + 1);
	memcpy(b + len / 2, "changed", 7);
	near = distance(NBMF_KIND_TEXT, a, b);
	CHECK(near <= 4, "%d", near);
	CHECK(similarity(NBMF_KIND_TEXT, a, b) > 0.95, "one word");

	for (size_t i = 0; i < len; i++)
		b[i] = (char) (a[i] >= '0' && a[i] <= '9' ? '0' + (a[i] - '0' + 3) % 10 : a[i]);
	CHECK(distance(NBMF_KIND_TEXT, a, b) > 20, "all words");
	near = nbmf_fingerprint_distance(fingerprint(NBMF_KIND_BYTEA, a, len).simhash,
									 fingerprint(NBMF_KIND_BYTEA, a + 5, len - 5).simhash);
	CHECK(near <= 2, "bytes moved by five: %d", near);
}

/*
 * What no comparison of words can see.  The issue is not that these are near,
 * but that it is known: the users' guide says so.
 */
static void
documented_limits(void)
{
	char a[2000] = "";
	char b[2000] = "";

	for (int i = 0; i < 12; i++)
	{
		strcat(a, "the agent read the file and found that the test number passes every time; ");
		strcat(b, "the agent read the file and found that the test number passes every time; ");
	}
	/* negation: one word of a long text */
	strcat(a, "the result is correct and may be used");
	strcat(b, "the result is not correct and may be used");
	CHECK(similarity(NBMF_KIND_TEXT, a, b) > 0.7, "%f", similarity(NBMF_KIND_TEXT, a, b));

	/* how often something is said */
	CHECK(same(NBMF_KIND_TEXT, "no no no no", "no no no no no no no"), "repetition");

	/* swapped names share the words but not the pairs: short texts are told apart */
	CHECK(distance(NBMF_KIND_TEXT, "a before b", "b before a") > 7, "swapped");
	CHECK(distance(NBMF_KIND_TEXT, "the capital of France is Paris",
				   "the capital of Germany is Paris") > 7,
		  "one name of six words");

	/* where in an array something is */
	CHECK(same(NBMF_KIND_JSON, "{\"a\":[1,2]}", "{\"a\":[2,1]}"), "order in arrays");
}

static void
depth_and_garbage(void)
{
	size_t depths[] = {100, 4096, 4097, 100000};
	static const char *const garbage[] = {
		"{",   "[",    "}",      "]",       "\"",      "\"\\",     "\"\\u",       "\"\\ud800\\u12",
		"{\"", "{\"a", "{\"a\"", "{\"a\":", "{a:1}",   "[1,,2]",   "nul",         "{\"a\":1}}",
		",",   ":",    "[1 2",   "[}",      "{\"a\"]", "\"a\"\"b", "\xFF\xFE{\"", "'x y z'"};

	for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++)
	{
		char *deep = malloc(6 * depths[i]);

		memset(deep, '[', depths[i]);
		fingerprint(NBMF_KIND_JSON, deep, depths[i]);
		memset(deep + depths[i], ']', depths[i]);
		fingerprint(NBMF_KIND_JSON, deep, 2 * depths[i]);
		for (size_t k = 0; k < depths[i]; k++)
			memcpy(deep + 5 * k, "{\"a\":", 5);
		memset(deep + 5 * depths[i], '}', depths[i]);
		fingerprint(NBMF_KIND_JSON, deep, 6 * depths[i]);
		free(deep);
	}
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
	{
		fingerprint(NBMF_KIND_JSON, garbage[i], strlen(garbage[i]));
		similarity(NBMF_KIND_JSON, garbage[i], "[1]");
	}
}

/* Long contents: every piece of the text counts, and similarity samples */
static void
long_contents(void)
{
	size_t len = quick_run ? 100000 : 5000000;
	uint8_t *a = pattern_alloc(PATTERN_NOISE, len);
	uint8_t *b;
	uint64_t state = 3;
	double alike;

	/* different words, so that there are more features than a set holds */
	for (size_t i = 0; i < len; i++)
		a[i] = (uint8_t) (i % 8 == 7 ? ' ' : 'a' + a[i] % 26);
	b = exact_copy(a, len);
	for (size_t i = 0; i < len / 80; i++)
		b[random_next(&state) % (len / 8) * 8] = '1';
	alike = nbmf_similarity(NBMF_KIND_TEXT, a, len, b, len);
	/* a tenth of the words change: 0.81 of the pairs stay, 0.73 of the triples */
	CHECK(alike > 0.59 && alike < 0.67, "%f", alike);
	CHECK(nbmf_fingerprint_distance(fingerprint(NBMF_KIND_TEXT, a, len).simhash,
									fingerprint(NBMF_KIND_TEXT, b, len).simhash) < 22,
		  "long texts");
	memset(a, 'x', len);
	fingerprint(NBMF_KIND_TEXT, a, len);
	memset(a, '"', len);
	fingerprint(NBMF_KIND_JSON, a, len);
	memset(a, '\\', len);
	a[0] = '"';
	fingerprint(NBMF_KIND_JSON, a, len);
	free(a);
	free(b);
}

static void
vectors(void)
{
	float v[400];
	float w[400];
	float zero[400] = {0};
	uint64_t state = 17;
	NbmfFingerprint x;
	NbmfFingerprint y;
	int far = 0;

	for (int i = 0; i < 400; i++)
	{
		v[i] = (float) (int) (random_next(&state) % 2001) - 1000;
		w[i] = v[i] + (float) (int) (random_next(&state) % 101) - 50;
	}
	x = fingerprint(NBMF_KIND_VECTOR, v, sizeof(v));
	y = fingerprint(NBMF_KIND_VECTOR, w, sizeof(w));
	CHECK(nbmf_fingerprint_distance(x.simhash, y.simhash) <= 4, "near");
	CHECK(nbmf_similarity(NBMF_KIND_VECTOR, v, sizeof(v), w, sizeof(w)) > 0.99, "near");
	for (int i = 0; i < 400; i++)
		w[i] = -4 * v[i];
	y = fingerprint(NBMF_KIND_VECTOR, w, sizeof(w));
	CHECK(nbmf_fingerprint_distance(x.simhash, y.simhash) == 64, "opposite");
	CHECK(nbmf_similarity(NBMF_KIND_VECTOR, v, sizeof(v), w, sizeof(w)) == 0, "opposite");
	for (int i = 0; i < 400; i++)
		w[i] = 3 * v[i];
	CHECK(nbmf_similarity(NBMF_KIND_VECTOR, v, sizeof(v), w, sizeof(w)) > 0.9999, "scaled");
	for (int i = 0; i < 400; i++)
		w[i] = v[399 - i];
	y = fingerprint(NBMF_KIND_VECTOR, w, sizeof(w));
	far = nbmf_fingerprint_distance(x.simhash, y.simhash);
	CHECK(far > 16 && far < 48, "unrelated: %d", far);
	CHECK(fingerprint(NBMF_KIND_VECTOR, zero, sizeof(zero)).simhash == 0, "zeros");
	CHECK(nbmf_similarity(NBMF_KIND_VECTOR, v, sizeof(v), zero, sizeof(zero)) == 0, "zeros");
	CHECK(nbmf_similarity(NBMF_KIND_VECTOR, v, sizeof(v), v, 100) == 0, "other dimensions");
}

void
test_fingerprint(bool quick, const char *dir)
{
	quick_run = quick;
	golden_dir = dir;
	tap_run("fingerprint: golden lines", golden_lines);
	tap_run("fingerprint: all paths agree", paths_agree);
	tap_run("fingerprint: the form of JSON does not matter", json_form_does_not_matter);
	tap_run("fingerprint: the form of text", text_form);
	tap_run("fingerprint: near contents are near", near_is_near);
	tap_run("fingerprint: documented limits", documented_limits);
	tap_run("fingerprint: depth and garbage", depth_and_garbage);
	tap_run("fingerprint: long contents", long_contents);
	tap_run("fingerprint: vectors", vectors);
}
