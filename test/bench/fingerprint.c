/*
 * fingerprint.c
 *		How well fingerprints find near documents, and what they cost.
 *
 *	fingerprint quality|hits|speed NAME [text] <DOCUMENTS
 *
 * A document is a line; with "text", the member "text" of the object that the
 * line is.  Prints Markdown rows about the documents, which NAME names.
 *
 *	quality	precision and recall, over all pairs of at most 2,000 different
 *			documents, of: simhash; simhash within two bits more and both words
 *			within twice the distance and one; simhash of a fingerprint with
 *			digits masked; "sums", what is called simhash elsewhere: a sum over
 *			the same features, weighted by the logarithm of how often they
 *			occur.  Truly near are two texts whose pairs of words have a
 *			Jaccard similarity of 0.8 or more; two JSON documents, whose leaves
 *			have, or whose pairs of words.
 *	hits	the share of documents that occurred before, and of the others, those
 *			with an earlier one within a distance
 *	speed	microseconds of processor time, the least of 50 runs of each 64 documents
 *
 * Needs no server: it links src/codec, as test/bench/run does.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/fingerprint.h"

#define SAMPLE     2000
#define RUN        50 /* documents that follow each other */
#define THRESHOLDS 4
#define RUNS       50

/* Similarities of 0.85, 0.88, 0.90 and 0.95 as distances */
static const int within[THRESHOLDS] = {9, 7, 6, 3};

typedef struct Document
{
	uint8_t *bytes;
	size_t len;
	NbmfKind kind;
	uint64_t id; /* hash of all bytes */
} Document;

typedef struct Hashes
{
	uint64_t *of;
	size_t count;
	size_t room;
} Hashes;

static Document *docs;
static size_t doc_count;

static void *
need(void *p)
{
	if (p == NULL)
	{
		fprintf(stderr, "fingerprint: out of memory\n");
		exit(1);
	}
	return p;
}

static void
add(Hashes *h, uint64_t x)
{
	if (h->count == h->room)
	{
		h->room = 2 * h->room + 64;
		h->of = need(realloc(h->of, h->room * sizeof(*h->of)));
	}
	h->of[h->count++] = x;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a;
	uint64_t y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

static void
sort(Hashes *h)
{
	if (h->count > 0)
		qsort(h->of, h->count, sizeof(*h->of), compare_hashes);
}

static void
make_set(Hashes *h)
{
	size_t n = 0;

	sort(h);
	for (size_t i = 0; i < h->count; i++)
		if (i == 0 || h->of[i] != h->of[i - 1])
			h->of[n++] = h->of[i];
	h->count = n;
}

static double
jaccard(const Hashes *a, const Hashes *b)
{
	size_t both = 0;

	if (a->count < b->count / 2 || b->count < a->count / 2)
		return 0; /* no more than a half */
	for (size_t i = 0, k = 0; i < a->count && k < b->count;)
	{
		if (a->of[i] == b->of[k])
		{
			both++;
			i++;
			k++;
		}
		else if (a->of[i] < b->of[k])
			i++;
		else
			k++;
	}
	return a->count + b->count == both ? 1 : (double) both / (double) (a->count + b->count - both);
}

/* Documents */

static size_t
put_utf8(unsigned c, uint8_t *to)
{
	if (c < 0x80)
		to[0] = (uint8_t) c;
	else if (c < 0x800)
	{
		to[0] = (uint8_t) (0xC0 | c >> 6);
		to[1] = (uint8_t) (0x80 | (c & 0x3F));
		return 2;
	}
	else
	{
		to[0] = (uint8_t) (0xE0 | c >> 12);
		to[1] = (uint8_t) (0x80 | (c >> 6 & 0x3F));
		to[2] = (uint8_t) (0x80 | (c & 0x3F));
		return 3;
	}
	return 1;
}

/* The member "text", which is the last one, in place; surrogates stay apart */
static size_t
member_text(uint8_t *line)
{
	const char *from = strstr((char *) line, "\"text\":");
	uint8_t *to = line;

	if (from == NULL || (from = strchr(from + 7, '"')) == NULL)
		return 0;
	for (from++; *from != '"' && *from != '\0'; from++)
	{
		if (*from != '\\')
			*to++ = (uint8_t) *from;
		else if (*++from == 'u')
		{
			char digits[5] = {from[1], from[2], from[3], from[4], '\0'};

			to += put_utf8((unsigned) strtoul(digits, NULL, 16), to);
			from += 4;
		}
		else
			*to++ = (uint8_t) (*from == 'n' ? '\n' : *from == 't' ? '\t' : *from);
	}
	return (size_t) (to - line);
}

static void
read_documents(bool text)
{
	char *line = NULL;
	size_t cap = 0;
	size_t room = 0;
	ssize_t got;

	while ((got = getline(&line, &cap, stdin)) > 0)
	{
		size_t len = (size_t) got - (line[got - 1] == '\n');
		Document *d;

		line[len] = '\0';
		if (text)
			len = member_text((uint8_t *) line);
		if (len == 0)
			continue;
		if (doc_count == room)
		{
			room = 2 * room + 1024;
			docs = need(realloc(docs, room * sizeof(*docs)));
		}
		d = &docs[doc_count++];
		d->bytes = need(malloc(len));
		memcpy(d->bytes, line, len);
		d->len = len;
		d->kind = !text && nbmf_json_valid(line, len) ? NBMF_KIND_JSON : NBMF_KIND_TEXT;
		d->id = nbmf_fp_string((uint64_t) d->kind, d->bytes, len);
	}
	free(line);
}

/* Was the document seen before?  Remembers it. */
static bool
seen_before(uint64_t id)
{
	static uint64_t *table;
	static size_t slots = 1;
	size_t at;

	if (table == NULL)
	{
		while (slots < 4 * doc_count)
			slots *= 2;
		table = need(calloc(slots, sizeof(*table)));
	}
	for (at = (size_t) id & (slots - 1); table[at] != 0; at = (at + 1) & (slots - 1))
		if (table[at] == id)
			return true;
	table[at] = id;
	return false;
}

/* Leave out what occurred before; then every so many documents, in runs */
static void
sample_documents(void)
{
	size_t n = 0;
	size_t step;

	for (size_t i = 0; i < doc_count; i++)
		if (!seen_before(docs[i].id))
			docs[n++] = docs[i];
	doc_count = n;
	if (doc_count <= SAMPLE)
		return;
	step = doc_count / (SAMPLE / RUN);
	n = 0;
	for (size_t start = 0; start + RUN <= doc_count && n < SAMPLE; start += step)
		for (size_t i = 0; i < RUN; i++)
			docs[n++] = docs[start + i];
	doc_count = n;
}

/* What is truly near */

static bool
in_word(uint8_t c)
{
	return c >= 0x80 || c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static void
word_pairs(const Document *d, Hashes *out)
{
	uint64_t before = 0;

	for (size_t i = 0; i < d->len;)
	{
		uint64_t h = 7;
		size_t start = i;

		for (; i < d->len && in_word(d->bytes[i]); i++)
			h = nbmf_fp_mix(h ^ (d->bytes[i] < 0x80 ? d->bytes[i] | 32 : d->bytes[i]), NBMF_FP_P2);
		if (i == start)
		{
			i++;
			continue;
		}
		add(out, nbmf_fp_mix(before * NBMF_FP_P3 ^ h, NBMF_FP_P1));
		before = h;
	}
	make_set(out);
}

/* Leaves of a document that is JSON: scalars and the keys above them */
static void
json_leaves(const Document *d, Hashes *out)
{
	static uint64_t paths[NBMF_JSON_DEPTH_MAX + 1];
	static bool object[NBMF_JSON_DEPTH_MAX + 1];
	size_t depth = 0;
	uint64_t path = 1;
	bool key = false;

	for (size_t i = 0; i < d->len;)
	{
		uint8_t c = d->bytes[i];
		size_t start = i++;

		if (c == '{' || c == '[')
		{
			paths[++depth] = path;
			object[depth] = key = c == '{';
		}
		else if (c == '}' || c == ']')
			depth--;
		else if (c == ',')
		{
			key = object[depth];
			path = paths[depth];
		}
		else if (c > ' ' && c != ':')
		{
			uint64_t h;

			if (c == '"')
			{
				for (; d->bytes[i] != '"'; i++)
					i += d->bytes[i] == '\\';
				i++;
			}
			else
				while (i < d->len && strchr(",]} \n\r\t", d->bytes[i]) == NULL)
					i++;
			h = nbmf_fp_string(3, d->bytes + start, i - start);
			if (key)
				path = nbmf_fp_mix(paths[depth] * NBMF_FP_P3 ^ h, NBMF_FP_P2);
			else
				add(out, nbmf_fp_mix(path * NBMF_FP_P2 ^ h, NBMF_FP_P3));
			key = false;
		}
	}
	make_set(out);
}

/* What is compared */

static void
take_all(void *state, const uint32_t *features, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add(state, features[i]);
}

static uint64_t
sums_of_features(const Document *d)
{
	NbmfFeatures features = {.take = take_all};
	Hashes all = {0};
	long sums[64] = {0};
	uint64_t bits = 0;

	features.state = &all;
	nbmf_features(&features, d->kind, d->bytes, d->len);
	sort(&all);
	for (size_t i = 0, k; i < all.count; i = k)
	{
		static const int log2_16[] = {0,  16, 25, 32, 37, 41, 45, 48, 51,
									  53, 55, 57, 59, 61, 63, 64, 65};
		uint64_t h = nbmf_fp_mix(nbmf_fp_mix(all.of[i], NBMF_FP_P2), NBMF_FP_P5);
		int weight;

		for (k = i; k < all.count && all.of[k] == all.of[i]; k++)
			;
		/* 16 (1 + ln n), from log2 (n + 1) */
		weight = (int) (k - i) < 17 ? 5 + 7 * log2_16[k - i] / 10 : 60;
		for (unsigned b = 0; b < 64; b++)
			sums[b] += (h >> b) & 1 ? weight : -weight;
	}
	for (unsigned b = 0; b < 64; b++)
		bits |= (uint64_t) (sums[b] > 0) << b;
	free(all.of);
	return bits;
}

static NbmfFingerprint
masked(const Document *d)
{
	uint8_t *copy = need(malloc(d->len));
	NbmfFingerprint f;

	for (size_t i = 0; i < d->len; i++)
		copy[i] = d->bytes[i] >= '0' && d->bytes[i] <= '9' ? '0' : d->bytes[i];
	nbmf_fingerprint(d->kind, copy, d->len, &f);
	free(copy);
	return f;
}

#define VARIANTS 4

static void
print_quality(const char *name, const char *variant, long truly, long found[][2])
{
	printf("| %s | %zu | %ld | %s |", name, doc_count, truly, variant);
	for (int t = 0; t < THRESHOLDS; t++)
	{
		double p = found[t][0] > 0 ? (double) found[t][1] / (double) found[t][0] : 1;
		double r = truly > 0 ? (double) found[t][1] / (double) truly : 1;

		printf(" %.2f / %.2f (%.2f) |", p, r, p + r > 0 ? 2 * p * r / (p + r) : 0);
	}
	printf("\n");
}

static void
quality(const char *name)
{
	static const char *const names[VARIANTS] = {"simhash", "both words", "digits masked", "sums"};
	static long found[VARIANTS][THRESHOLDS][2];
	uint64_t(*f)[4];
	Hashes *pairs;
	Hashes *leaves;
	long truly = 0;

	sample_documents();
	f = need(calloc(doc_count, sizeof(*f)));
	pairs = need(calloc(doc_count, sizeof(*pairs)));
	leaves = need(calloc(doc_count, sizeof(*leaves)));
	for (size_t i = 0; i < doc_count; i++)
	{
		NbmfFingerprint own;

		nbmf_fingerprint(docs[i].kind, docs[i].bytes, docs[i].len, &own);
		f[i][0] = own.simhash;
		f[i][1] = own.second;
		f[i][2] = masked(&docs[i]).simhash;
		f[i][3] = sums_of_features(&docs[i]);
		word_pairs(&docs[i], &pairs[i]);
		if (docs[i].kind == NBMF_KIND_JSON)
			json_leaves(&docs[i], &leaves[i]);
	}
	for (size_t i = 0; i < doc_count; i++)
		for (size_t k = 0; k < i; k++)
		{
			bool json = docs[i].kind == NBMF_KIND_JSON && docs[k].kind == NBMF_KIND_JSON;
			bool near = jaccard(&pairs[i], &pairs[k]) >= 0.8 ||
						(json && jaccard(&leaves[i], &leaves[k]) >= 0.8);
			int d[VARIANTS];

			truly += near;
			d[0] = nbmf_fingerprint_distance(f[i][0], f[k][0]);
			d[1] = d[0] + nbmf_fingerprint_distance(f[i][1], f[k][1]);
			d[2] = nbmf_fingerprint_distance(f[i][2], f[k][2]);
			d[3] = nbmf_fingerprint_distance(f[i][3], f[k][3]);
			for (int v = 0; v < VARIANTS; v++)
				for (int t = 0; t < THRESHOLDS; t++)
				{
					bool is = v == 1 ? d[0] <= within[t] + 2 && d[1] <= 2 * within[t] + 1
									 : d[v] <= within[t];

					found[v][t][0] += is;
					found[v][t][1] += is && near;
				}
		}
	for (int v = 0; v < VARIANTS; v++)
		print_quality(name, names[v], truly, found[v]);
}

static void
hits(const char *name)
{
	long exact = 0;
	long near[THRESHOLDS] = {0};
	long alike = 0;
	Hashes seen = {0}; /* fingerprints of different documents, and which */
	Hashes which = {0};

	for (size_t i = 0; i < doc_count; i++)
	{
		NbmfFingerprint own;
		int best = 65;
		size_t best_of = 0;

		if (seen_before(docs[i].id))
		{
			exact++;
			continue;
		}
		nbmf_fingerprint(docs[i].kind, docs[i].bytes, docs[i].len, &own);
		for (size_t k = 0; k < seen.count; k++)
		{
			int d = nbmf_fingerprint_distance(own.simhash, seen.of[k]);

			if (d < best)
			{
				best = d;
				best_of = (size_t) which.of[k];
			}
		}
		for (int t = 0; t < THRESHOLDS; t++)
			near[t] += best <= within[t];
		if (best <= 7 && docs[i].kind == docs[best_of].kind)
			alike += nbmf_similarity(docs[i].kind, docs[i].bytes, docs[i].len, docs[best_of].bytes,
									 docs[best_of].len) >= 0.7;
		add(&seen, own.simhash);
		add(&which, i);
	}
	printf("| %s | %zu | %.1f |", name, doc_count, 100.0 * (double) exact / (double) doc_count);
	for (int t = 0; t < THRESHOLDS; t++)
		printf(" %.1f |", 100.0 * (double) near[t] / (double) doc_count);
	printf(" %.1f |\n", 100.0 * (double) alike / (double) doc_count);
}

static double
used(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

/* Documents that are timed together: the least time of each counts, as others use the processor */
#define TOGETHER 64

static void
speed(const char *name)
{
	double total[NBMF_FINGERPRINT_PATHS] = {0};
	int best = 0;
	size_t bytes = 0;

	for (size_t i = 0; i < doc_count; i++)
		bytes += docs[i].len;
	for (size_t from = 0; from < doc_count; from += TOGETHER)
	{
		size_t to = doc_count - from < TOGETHER ? doc_count : from + TOGETHER;
		double least[NBMF_FINGERPRINT_PATHS] = {0};

		for (int run = 0; run < RUNS; run++)
			for (int path = 0; path < NBMF_FINGERPRINT_PATHS; path++)
			{
				double start = used();
				bool there = true;
				NbmfFingerprint f;

				for (size_t i = from; i < to && there; i++)
					there = nbmf_fingerprint_by((NbmfFingerprintPath) path, docs[i].kind,
												docs[i].bytes, docs[i].len, &f);
				start = used() - start;
				if (there)
					least[path] = run == 0 || start < least[path] ? start : least[path];
				best = there && path > best ? path : best;
			}
		for (int path = 0; path < NBMF_FINGERPRINT_PATHS; path++)
			total[path] += least[path];
	}
	printf("| %s | %zu | %zu | %.2f |", name, doc_count, bytes / doc_count,
		   total[best] / (double) doc_count);
	for (int path = NBMF_FINGERPRINT_PATHS - 1; path >= 0; path--)
		if (path <= best)
			printf(" %.2f |", total[path] / (double) bytes * 1024);
		else
			printf(" - |");
	printf("\n");
}

int
main(int argc, char **argv)
{
	if (argc < 3)
	{
		fprintf(stderr, "usage: fingerprint quality|hits|speed NAME [text] <DOCUMENTS\n");
		return 2;
	}
	read_documents(argc > 3);
	if (doc_count == 0)
		return 0;
	if (strcmp(argv[1], "quality") == 0)
		quality(argv[2]);
	else if (strcmp(argv[1], "hits") == 0)
		hits(argv[2]);
	else
		speed(argv[2]);
	return 0;
}
