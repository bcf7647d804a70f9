/*
 * similarity.c
 *		How alike two contents are, by the contents.
 *
 * A fingerprint estimates; this compares the features themselves.  Up to SET_MAX
 * different features the Jaccard similarity is exact; of larger sets, those
 * features are compared whose hash ends in enough zeros, the same ones in both
 * contents, 2,048 or more of the larger set: a standard error of at most 1.1 %.
 *
 * Memory: 128 KB of stack, whatever the contents.
 */
#include "codec/fingerprint.h"

#define SLOTS   8192
#define SET_MAX 4096

/* An open-addressed set of features; 0 is an empty slot */
typedef struct Set
{
	unsigned level; /* only features that end in so many zeros */
	size_t count;
	uint32_t slots[SLOTS];
} Set;

static inline bool
at_level(uint32_t h, unsigned level)
{
	return (h & ((UINT32_C(1) << level) - 1)) == 0;
}

static inline uint32_t *
find(Set *set, uint32_t h)
{
	/* the low bits are alike at high levels */
	size_t at = (uint32_t) (h * (uint32_t) NBMF_FP_P1) >> 19;

	while (set->slots[at] != 0 && set->slots[at] != h)
		at = (at + 1) % SLOTS;
	return &set->slots[at];
}

static void
insert(Set *set, uint32_t h)
{
	uint32_t *slot = find(set, h);

	set->count += *slot == 0;
	*slot = h;
}

/* Leave half of the features out */
static void
raise_level(Set *set)
{
	uint32_t kept[SET_MAX + 1];
	size_t n = 0;

	set->level++;
	for (size_t i = 0; i < SLOTS; i++)
		if (set->slots[i] != 0 && at_level(set->slots[i], set->level))
			kept[n++] = set->slots[i];
	memset(set->slots, 0, sizeof(set->slots));
	set->count = 0;
	for (size_t i = 0; i < n; i++)
		insert(set, kept[i]);
}

static void
take_into_set(void *state, const uint32_t *features, size_t count)
{
	Set *set = state;

	for (size_t i = 0; i < count; i++)
	{
		uint32_t h = features[i] != 0 ? features[i] : UINT32_C(1) << 31;

		if (!at_level(h, set->level))
			continue;
		insert(set, h);
		while (set->count > SET_MAX)
			raise_level(set);
	}
}

static void
make_set(Set *set, NbmfKind kind, const void *content, size_t len)
{
	NbmfFeatures features;

	memset(set, 0, sizeof(*set));
	features.take = take_into_set;
	features.state = set;
	nbmf_features(&features, kind, content, len);
}

static double
jaccard(NbmfKind kind, const void *a, size_t a_len, const void *b, size_t b_len)
{
	Set x;
	Set y;
	unsigned level;
	size_t of_x = 0;
	size_t of_y = 0;
	size_t both = 0;

	make_set(&x, kind, a, a_len);
	make_set(&y, kind, b, b_len);
	level = x.level > y.level ? x.level : y.level;
	for (size_t i = 0; i < SLOTS; i++)
	{
		of_y += y.slots[i] != 0 && at_level(y.slots[i], level);
		if (x.slots[i] == 0 || !at_level(x.slots[i], level))
			continue;
		of_x++;
		both += *find(&y, x.slots[i]) != 0;
	}
	return of_x + of_y == both ? 0.0 : (double) both / (double) (of_x + of_y - both);
}

/* Square root of 0 .. 1 by Newton's method, from above */
static double
root(double x)
{
	double y = 1.0;

	for (unsigned i = 0; i < 60; i++)
		y = (y + x / y) / 2;
	return y;
}

/* The cosine of the angle between two vectors; 0 if it is obtuse */
static double
cosine(const uint8_t *a, const uint8_t *b, size_t count)
{
	uint32_t a_scale = nbmf_vector_scale(a, count);
	uint32_t b_scale = nbmf_vector_scale(b, count);
	double ab = 0;
	double aa = 0;
	double bb = 0;

	for (size_t i = 0; i < count; i += 128)
	{
		size_t n = count - i < 128 ? count - i : 128;
		int32_t x[128];
		int32_t y[128];
		int64_t sums[3] = {0, 0, 0};

		nbmf_vector_integers(a + 4 * i, n, a_scale, x);
		nbmf_vector_integers(b + 4 * i, n, b_scale, y);
		for (size_t k = 0; k < n; k++)
		{
			sums[0] += (int64_t) x[k] * y[k];
			sums[1] += (int64_t) x[k] * x[k];
			sums[2] += (int64_t) y[k] * y[k];
		}
		ab += (double) sums[0];
		aa += (double) sums[1];
		bb += (double) sums[2];
	}
	if (ab <= 0)
		return 0.0;
	ab = root(ab / aa * (ab / bb));
	return ab < 1.0 ? ab : 1.0;
}

/*
 * How alike two contents of one kind are, from 0 to 1: 1 for equal contents,
 * else the Jaccard similarity of their features; for vectors the cosine, 0 if
 * they have not as many components.
 */
double
nbmf_similarity(NbmfKind kind, const void *a, size_t a_len, const void *b, size_t b_len)
{
	if (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0))
		return 1.0;
	if (kind == NBMF_KIND_VECTOR)
		return a_len == b_len ? cosine(a, b, a_len / 4) : 0.0;
	return jaccard(kind, a, a_len, b, b_len);
}
