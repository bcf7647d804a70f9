/*
 * neural_group.cu
 *		A document to each group of 16 or 32 lanes: lane i is input i.
 *
 * Every lane hashes its own context, fetches its own line and weighs its own
 * evidence; what concerns the document as a whole (reader, coder, decisions) is
 * computed alike in all of them.  All contexts are looked up for each byte, since
 * to leave the slow ones out saves nothing here.  Reader, coder and hash functions
 * are those of the processor; what looks a slot up, weighs and excludes is written
 * anew for lanes, with the names that it has in neural_core.h.
 */
#include "kernels.h"
#include "lanes.h"

/* Most threads of a block */
#define GROUP_BLOCK_MAX 256

/* How a lane's context is hashed: so many parts, of which the first is of one sort */
enum
{
	PART_RECENT,
	PART_FIELD,
	PART_WORD
};

typedef struct LaneRule
{
	uint64_t mask; /* of the last eight bytes */
	uint8_t seed;
	uint8_t first;
	uint8_t parts; /* 0: no context */
} LaneRule;

/* In the order of the inputs; neural_hash_fast and neural_hash_slow are the rule */
NEURAL_DEVICE static const LaneRule lane_rules[NEURAL_INPUTS] = {
	{0, 0, PART_RECENT, 0},
	{0, 0, PART_RECENT, 0},
	{UINT64_MAX, 2, PART_RECENT, 3},
	{UINT64_MAX, 2, PART_RECENT, 2},
	{0, 11, PART_WORD, 2},
	{UINT64_C(0xffffffffffff), 1, PART_RECENT, 1},
	{0, 4, PART_FIELD, 2},
	{UINT64_C(0xffffffff), 8, PART_RECENT, 1},
	{0, 12, PART_FIELD, 2},
	{UINT64_C(0xffffff), 7, PART_RECENT, 1},
	{UINT64_C(0xffff), 6, PART_RECENT, 1},
	{UINT64_C(0xff), 5, PART_RECENT, 1},
	{0, 0, PART_RECENT, 0},
	{0, 0, PART_RECENT, 0},
	{0, 0, PART_RECENT, 0},
	{0, 0, PART_RECENT, 0},
};

template <unsigned G> struct GroupState
{
	const NeuralImage *image;
	const uint8_t *content;
	uint32_t (*match_table)[1 << NEURAL_MATCH_BITS];
	uint32_t base;
	uint32_t pos;
	NeuralReader reader;
	uint32_t found;
	uint32_t guessing;
	uint32_t excluded_count;
	uint32_t excluded;   /* the first lowest */
	uint32_t last_class; /* of the last byte, in its place of an index */

	Lanes<LaneRule, G> rule;
	Lanes<uint32_t, G> match; /* lanes 0 and 1: as in NeuralState */
	Lanes<uint32_t, G> match_len;
	Lanes<uint32_t, G> expected; /* the byte that a match names */
	Lanes<uint32_t, G> symbols;  /* three, the first lowest */
	Lanes<uint32_t, G> levels;
	Lanes<uint32_t, G> cells; /* four, of NeuralState's cell[0..3], the first lowest */
};

NEURAL_INLINE uint64_t
lane_hash(const NeuralContext *x, const LaneRule *rule, unsigned i)
{
	uint64_t w = x->recent[0];
	uint64_t first = rule->first == PART_FIELD  ? x->field
					 : rule->first == PART_WORD ? x->word
												: w & rule->mask;
	uint64_t h = neural_mix(rule->seed, first);

	if (rule->parts >= 2)
	{
		uint64_t second = i == NEURAL_ORDER20   ? x->recent[1]
						  : i == NEURAL_ORDER12 ? x->recent[1] & UINT64_C(0xffffffff)
						  : i == NEURAL_WORDS   ? x->word_before
						  : i == NEURAL_PLACE   ? neural_place(x)
												: x->value;

		h = neural_mix(h, second);
	}
	if (rule->parts == 3)
		h = neural_mix(h, x->recent[2] & UINT64_C(0xffffffff));
	return h;
}

/* Words of memory that is known to be aligned */
NEURAL_INLINE void
load_words(uint32_t *to, const void *from, unsigned count)
{
#ifdef __CUDACC__
	if (count == 4)
	{
		uint4 v = __ldg((const uint4 *) from);

		to[0] = v.x;
		to[1] = v.y;
		to[2] = v.z;
		to[3] = v.w;
	}
	else
		for (unsigned i = 0; i < count; i++)
			to[i] = __ldg((const uint32_t *) from + i);
#else
	memcpy(to, from, count * sizeof(*to));
#endif
}

/*
 * What a context's slot says: levels, 0 if there is none, and symbols.  Of the eight
 * checks in four words the first that is equal is taken; since none has the
 * uppermost bit, no subtraction borrows from its neighbour.
 */
NEURAL_INLINE uint32_t
lane_find(const NeuralImage *image, uint64_t hash, uint32_t *symbols)
{
	const uint8_t *line = neural_line(image, hash);
	uint32_t check = neural_check(hash) * 0x10001u;
	uint32_t w[4];
	uint32_t mask;
	uint32_t at;
	uint64_t said;

	load_words(w, line, 4);
	mask = ((0x80008000 - (w[0] ^ check)) & 0x80008000) >> 15;
	mask |= ((0x80008000 - (w[1] ^ check)) & 0x80008000) >> 13;
	mask |= ((0x80008000 - (w[2] ^ check)) & 0x80008000) >> 11;
	mask |= ((0x80008000 - (w[3] ^ check)) & 0x80008000) >> 9;
	mask = (mask | mask >> 15) & 0xff;
	if (mask == 0)
		return 0;
	at = NEURAL_LINE_CHECKS + NEURAL_SLOT_LEN * neural_lowest(mask);
	load_words(w, line + (at & ~3u), 2);
	said = ((uint64_t) w[1] << 32 | w[0]) >> (at & 2) * 8;
	*symbols = (uint32_t) said & 0xffffff;
	return (uint32_t) (said >> 24) & 0xffff;
}

/* neural_set_cells */
NEURAL_INLINE void
lane_set_cells(const NeuralImage *image, uint32_t levels, uint32_t *symbols, uint32_t *cells)
{
	uint32_t cell[4];
	uint32_t symbol = *symbols & 0xff;

	if (levels < 16)
	{
		*symbols = symbol * 0x010101;
		*cells = levels * 0x10101010 & 0x00ffffff;
		*cells |= levels << 24;
		return;
	}
	cell[0] = (levels & 15) << 4 | image->rest[levels & 0xfff0];
	cell[1] = (levels & 0xf0) | image->rest[levels & 0xff0f];
	cell[2] = (levels >> 4 & 0xf0) | image->rest[levels & 0xf0ff];
	cell[3] = image->rest[levels];
	if ((levels & 0xf00) == 0)
	{
		*symbols = (*symbols & 0x00ffff) | symbol << 16;
		cell[2] = cell[0];
	}
	if ((levels & 0xf0) == 0)
	{
		*symbols = (*symbols & 0xff00ff) | symbol << 8;
		cell[1] = cell[0];
	}
	*cells = cell[0] | cell[1] << 8 | cell[2] << 16 | cell[3] << 24;
}

/* Ask all inputs about the byte that comes next; cells but the first are left open */
template <unsigned G>
NEURAL_INLINE void
group_hear(GroupState<G> &s)
{
	Lanes<bool, G> found;
	Lanes<bool, G> guessing;

	EACH_LANE (i)
	{
		if (i < NEURAL_CONTEXT)
		{
			uint32_t bucket = neural_match_bucket(s.match_len[i]);

			found[i] = guessing[i] = s.match[i] != 0;
			s.symbols[i] = s.expected[i] * 0x010101;
			s.levels[i] = 0;
			s.cells[i] = found[i] ? (2 * bucket) * 0x01010101 + 0x00010101 : 0;
		}
		else
		{
			uint32_t levels = s.levels[i];

			found[i] = levels != 0;
			guessing[i] = (levels & 15) != 0;
			s.cells[i] = (levels & 15) << 4 | s.image->rest[levels & 0xfff0];
		}
	}
	s.found = vote(found);
	s.guessing = vote(guessing);
	s.excluded_count = 0;
	s.excluded = 0;
}

template <unsigned G>
NEURAL_INLINE void
group_find(GroupState<G> &s)
{
	s.last_class = s.image->class_of[s.reader.context.recent[0] & 0xff];
	EACH_LANE (i)
	{
		s.levels[i] = 0;
		if (s.rule[i].parts != 0)
			s.levels[i] =
				lane_find(s.image, lane_hash(&s.reader.context, &s.rule[i], i), &s.symbols[i]);
	}
}

/*
 * Take in a byte, which is at s.content[s.pos]: neural_update.  The two matches'
 * entries are on their way while the contexts are looked up.
 */
template <unsigned G>
NEURAL_INLINE void
group_update(GroupState<G> &s, uint8_t c)
{
	Lanes<uint32_t, G> entry;
	Lanes<uint32_t, G> key;
	Lanes<bool, G> due;
	Lanes<bool, G> look;

	neural_read(&s.reader, c);
	s.pos++;
	EACH_LANE (i)
	{
		uint64_t mask = i == 0 ? UINT64_C(0xffffffffffff) : UINT64_C(0xffffff);
		uint32_t least = i == 0 ? NEURAL_LONG_LEN : NEURAL_SHORT_LEN;

		/* neural_match_key */
		key[i] = neural_hash32(neural_mix(s.reader.context.recent[0] & mask, i + 3)) >>
				 (32 - NEURAL_MATCH_BITS);
		due[i] = i < NEURAL_CONTEXT && s.pos >= least;
		entry[i] = due[i] ? s.match_table[i & 1][key[i]] : 0;
	}
	group_find(s);
	EACH_LANE (i)
	{
		if (s.match[i] != 0 && s.expected[i] == c)
		{
			s.match[i]++;
			s.match_len[i]++;
		}
		else
		{
			s.match[i] = 0;
			s.match_len[i] = 0;
		}
		look[i] = s.match[i] == 0 && entry[i] > s.base;
		if (due[i])
			s.match_table[i & 1][key[i]] = s.base + s.pos + 1;
	}
	for (uint32_t left = vote(look); left != 0; left &= left - 1)
	{
		unsigned m = neural_lowest(left);
		uint32_t at = share(entry, m) - s.base - 1;
		uint32_t len = 0;

		/* lanes compare the bytes before, 32 at most */
		while (len < 32)
		{
			Lanes<bool, G> differ;
			uint32_t all;

			EACH_LANE (i)
			{
				uint32_t n = len + i;

				differ[i] =
					n >= at || n >= s.pos || s.content[at - 1 - n] != s.content[s.pos - 1 - n];
			}
			all = vote(differ);
			len += all != 0 ? neural_lowest(all) : G;
			if (all != 0)
				break;
		}
		if (len >= (m == 0 ? NEURAL_LONG_LEN : NEURAL_SHORT_LEN))
			EACH_LANE (i)
				if (i == m)
				{
					s.match[i] = at + 1;
					s.match_len[i] = len;
				}
	}
	EACH_LANE (i)
		if (s.match[i] != 0)
			s.expected[i] = s.content[s.match[i] - 1];
	group_hear(s);
}

/* All cells of all contexts, which the fast stage does without */
template <unsigned G>
NEURAL_INLINE void
group_set_cells(GroupState<G> &s)
{
	EACH_LANE (i)
		if (s.levels[i] != 0)
			lane_set_cells(s.image, s.levels[i], &s.symbols[i], &s.cells[i]);
}

/* neural_exclude */
template <unsigned G>
NEURAL_INLINE void
group_exclude(GroupState<G> &s, uint8_t c)
{
	Lanes<bool, G> silent;
	Lanes<bool, G> gone;

	s.excluded |= (uint32_t) c << 8 * s.excluded_count++;
	EACH_LANE (i)
	{
		uint32_t symbols = s.symbols[i];
		bool is0 = (symbols & 0xff) == c;
		bool is1 = (symbols >> 8 & 0xff) == c;

		silent[i] = false;
		gone[i] = false;
		if ((s.found >> (i & 31) & 1) != 0 && (is0 || is1 || symbols >> 16 == c))
		{
			uint32_t levels = s.levels[i];

			if (levels < 16)
				levels = 0;
			else if (is0)
			{
				levels = (levels & 0xf000) | (levels >> 4 & 0x0ff);
				symbols = symbols >> 8 | (symbols & 0xff0000);
			}
			else if (is1)
			{
				levels = (levels & 0xf00f) | (levels >> 4 & 0x0f0);
				symbols = (symbols & 0xff00ff) | (symbols >> 8 & 0x00ff00);
			}
			else
				levels &= 0xf0ff;
			silent[i] = (levels & 15) == 0;
			if (silent[i])
				symbols = (symbols & 0xffff00) | c;
			gone[i] = levels == 0;
			s.levels[i] = levels;
			s.symbols[i] = symbols;
			if (levels == 0)
				s.cells[i] = 0;
			else
				lane_set_cells(s.image, levels, &s.symbols[i], &s.cells[i]);
		}
	}
	s.guessing &= ~vote(silent);
	s.found &= ~vote(gone);
}

/* Lanes whose first symbol is c */
template <unsigned G>
NEURAL_INLINE uint32_t
group_equal(const GroupState<G> &s, uint8_t c)
{
	Lanes<bool, G> equal;

	EACH_LANE (i)
		equal[i] = (s.symbols[i] & 0xff) == c;
	return vote(equal);
}

/* neural_decide_fast: the logit, and the symbol in *c; INT32_MIN where it says nothing */
template <unsigned G>
NEURAL_INLINE int32_t
group_decide_fast(const GroupState<G> &s, uint8_t *c)
{
	const NeuralImage *image = s.image;
	const uint32_t fast = NEURAL_FAST | 1u << NEURAL_MATCH_LONG;
	uint32_t heard = s.guessing & fast;
	uint32_t mask;
	uint32_t match = 0;
	uint32_t classes;
	Lanes<int32_t, G> product;

	if (heard == 0 || (s.found & NEURAL_FAST & ~heard) != 0)
		return INT32_MIN;
	*c = (uint8_t) share(s.symbols, neural_lowest(heard));
	if ((heard & ~group_equal(s, *c)) != 0)
		return INT32_MIN;
	mask = (heard >> NEURAL_ORDER20 & 3) | (heard >> NEURAL_FIELD & 1) << 2 |
		   (heard >> NEURAL_ORDER6 & 1) << 3;
	if (heard & 1u << NEURAL_MATCH_LONG)
	{
		uint32_t len = share(s.match_len, NEURAL_MATCH_LONG);

		match = len < 16 ? 1 : len < 32 ? 2 : 3;
	}
	classes = image->class_of[*c] * 16u + s.last_class;
	EACH_LANE (i)
	{
		product[i] = 0;
		if ((fast | 1u << NEURAL_BIAS) >> i & 1)
		{
			uint32_t cell = i == NEURAL_BIAS ? 0 : s.cells[i] & 0xff;

			product[i] = image->evidence[STAGE_FAST][i][cell] *
						 (image->fast_found[mask + 16 * match][i] + image->fast_class[classes][i] +
						  image->fast_any[i]);
		}
	}
	return neural_shift(sum(product), WEIGHT_SHIFT);
}

/* neural_weigh */
template <unsigned G>
NEURAL_INLINE int32_t
group_weigh(const GroupState<G> &s, unsigned guess, unsigned order, uint8_t c)
{
	const NeuralImage *image = s.image;
	unsigned stage = guess == 0 ? STAGE_FIRST : STAGE_AGAIN;
	Lanes<uint32_t, G> cell;
	Lanes<bool, G> agrees;
	Lanes<int32_t, G> product;
	uint32_t agree;
	uint32_t match = 0;
	uint32_t classes = image->class_of[c] * 16u + s.last_class;

	EACH_LANE (i)
	{
		uint32_t symbols = s.symbols[i];
		unsigned which = (symbols & 0xff) == c        ? 0
						 : (symbols >> 8 & 0xff) == c ? 8
						 : symbols >> 16 == c         ? 16
													  : 24;

		cell[i] = s.cells[i] >> which & 0xff;
		agrees[i] = cell[i] >> 4 > (cell[i] & 15);
	}
	agree = neural_ones(vote(agrees) & NEURAL_CONTEXTS);
	if (s.found & (1u << NEURAL_MATCH_LONG | 1u << NEURAL_MATCH_SHORT))
	{
		bool is_long = s.found & 1u << NEURAL_MATCH_LONG;
		uint32_t said = share(cell, is_long ? NEURAL_MATCH_LONG : NEURAL_MATCH_SHORT);

		if (is_long)
			match = (said & 1) == 0 ? 5 : said < 16 ? 1 : said < 32 ? 2 : said < 38 ? 3 : 4;
		else
			match = said & 1 ? 6 : 7;
	}
	match = match * 8 + (agree > 7 ? 7 : agree);
	EACH_LANE (i)
	{
		product[i] = 0;
		if (i < NEURAL_INPUTS)
			product[i] = image->evidence[stage][i][cell[i]] *
						 (image->rank_order[guess][order][i] + image->rank_match[guess][match][i] +
						  image->rank_class[guess][classes][i]);
	}
	return neural_shift(sum(product), WEIGHT_SHIFT);
}

/* neural_decide: likewise */
template <unsigned G>
NEURAL_INLINE int32_t
group_decide(const GroupState<G> &s, unsigned guess, uint8_t *symbol)
{
	uint32_t left = s.guessing;
	uint32_t orders = s.found & NEURAL_ORDERS;
	unsigned order = orders != 0 ? neural_lowest(orders) : NEURAL_BIAS;
	int32_t best = INT32_MIN;

	for (unsigned n = 0; left != 0 && n < CANDIDATES; n++)
	{
		uint8_t c = (uint8_t) share(s.symbols, neural_lowest(left));
		int32_t logit = group_weigh(s, guess, order, c);

		left &= ~group_equal(s, c);
		if (logit > best)
		{
			best = logit;
			*symbol = c;
		}
		if (best > SURE_LOGIT)
			break;
	}
	return guess == 0 || best >= AGAIN_LOGIT ? best : INT32_MIN;
}

/* neural_escape_hash */
template <unsigned G>
NEURAL_INLINE uint64_t
lane_escape_hash(const GroupState<G> &s, unsigned i)
{
	const NeuralContext *x = &s.reader.context;
	uint64_t w = x->recent[0];
	uint64_t first = i == 0             ? w & 0xffffff
					 : i == 1 || i == 6 ? w & 0xff
					 : i == 2 || i == 7 ? w & 0xffff
					 : i < 5            ? x->field
					 : s.excluded_count > 0
						 ? neural_mix((s.excluded & 0xff) + UINT64_C(1), w & 0xff)
						 : w & 0xffffff;
	uint64_t h = neural_mix(21 + i, first);

	if (i == 3)
		h = neural_mix(h, x->value_len < 20 ? x->value_len : 20);
	if (i == 4)
		h = neural_mix(h, w & 0xff);
	return h;
}

typedef struct EscapeLine
{
	uint32_t words[4];
} EscapeLine;

NEURAL_INLINE int32_t
escape_node(const EscapeLine *line, uint32_t at)
{
	uint32_t low = at & 4 ? line->words[1] : line->words[0];
	uint32_t high = at & 4 ? line->words[3] : line->words[2];

	return (int8_t) ((at & 8 ? high : low) >> 8 * (at & 3));
}

/* code_escape */
template <unsigned G, bool decode>
NEURAL_INLINE uint8_t
group_escape(const GroupState<G> &s, NeuralCoder *coder, uint8_t y)
{
	const NeuralImage *image = s.image;
	Lanes<uint64_t, G> hash;
	Lanes<EscapeLine, G> line;
	uint32_t node = 1;

	EACH_LANE (i)
		hash[i] = lane_escape_hash(s, i);
	for (unsigned half = 0; half < 2; half++)
	{
		uint32_t at = 1;

		EACH_LANE (i)
		{
			if (half == 1)
				hash[i] = neural_escape_half(hash[i], node & 15);
			line[i] = EscapeLine{{0, 0, 0, 0}};
			if (i < NEURAL_ESCAPE_CONTEXTS)
			{
				const int8_t *from = neural_escape_bucket(image, hash[i]);
				uint8_t check = neural_escape_check(hash[i]);

				for (unsigned way = 0; way < NEURAL_ESCAPE_WAYS; way++, from += NEURAL_ESCAPE_LINE)
					if ((uint8_t) from[0] == check)
					{
						load_words(line[i].words, from, 4);
						break;
					}
			}
		}
		for (unsigned n = 0; n < 4; n++)
		{
			Lanes<int32_t, G> product;
			uint32_t excluded =
				neural_escape_excluded(s.excluded, s.excluded_count, node, 4 * half + n);
			int32_t logit;
			bool bit;

			EACH_LANE (i)
			{
				int32_t x = i == NEURAL_BIAS ? 256 : escape_node(&line[i], at) * ESCAPE_STEP;

				product[i] = 0;
				if (i < NEURAL_INPUTS)
					product[i] =
						x * (image->escape_weights[node][i] + image->escape_excluded[excluded][i]);
			}
			logit = neural_shift(sum(product), ESCAPE_WEIGHT_SHIFT);
			bit = coder_bit(coder, decode, (y >> (7 - 4 * half - n)) & 1, neural_squash(logit));
			node = node << 1 | bit;
			at = at << 1 | bit;
		}
	}
	return (uint8_t) node;
}

/* code_symbol */
template <unsigned G, bool decode>
NEURAL_INLINE uint8_t
group_symbol(GroupState<G> &s, NeuralCoder *coder, uint8_t y)
{
	uint8_t c = 0;
	unsigned guess = 0;
	int32_t logit = group_decide_fast(s, &c);

	if (logit > FAST_LOGIT)
	{
		if (coder_bit(coder, decode, c == y, neural_squash(logit)))
			return c;
		guess = 1;
	}
	group_set_cells(s);
	if (guess == 1)
		group_exclude(s, c);
	for (; guess < GUESSES; guess++)
	{
		logit = group_decide(s, guess, &c);
		if (logit == INT32_MIN)
			break;
		if (coder_bit(coder, decode, c == y, neural_squash(logit)))
			return c;
		group_exclude(s, c);
	}
	return group_escape<G, decode>(s, coder, y);
}

/* path: NEURAL_DEPTH words of the group */
template <unsigned G>
NEURAL_INLINE void
group_begin(GroupState<G> &s, const Batch *batch, uint32_t slot, uint32_t *path,
			const uint8_t *content)
{
	s.image = batch->image;
	s.content = content;
	s.match_table = batch->tables[slot];
	s.base = batch->bases[slot];
	s.pos = 0;
	memset(&s.reader, 0, sizeof(s.reader));
	s.reader.path = path;
	group_sync<G>();
	EACH_LANE (i)
	{
		for (unsigned n = i; n < NEURAL_DEPTH; n += G)
			path[n] = 0;
		if (s.base > UINT32_C(0x80000000) - NEURAL_HISTORY_MAX)
			for (unsigned n = i; n < 1 << NEURAL_MATCH_BITS; n += G)
				s.match_table[0][n] = s.match_table[1][n] = 0;
		s.rule[i] = lane_rules[i % NEURAL_INPUTS];
		if (i >= NEURAL_INPUTS)
			s.rule[i].parts = 0;
		s.match[i] = 0;
		s.match_len[i] = 0;
		s.expected[i] = 0;
		s.symbols[i] = 0;
	}
	if (s.base > UINT32_C(0x80000000) - NEURAL_HISTORY_MAX)
		s.base = 0;
	group_sync<G>();
	group_find(s);
	group_hear(s);
}

/* encode_document; the end mark is coded like a byte behind the last one */
template <unsigned G>
NEURAL_INLINE NbmfStatus
group_encode(GroupState<G> &s, const BatchItem *item, const uint8_t *content, uint8_t *payload,
			 uint32_t *made)
{
	NeuralCoder coder = {.high = UINT64_MAX, .out = payload, .end = item->payload_len};
	uint8_t end_mark = (uint8_t) s.image->end_mark;
	uint32_t end = item->content_len + (item->bounded ? 0 : 1);

	for (uint32_t i = 0; i < end && !coder.over; i++)
	{
		bool is_end = i == item->content_len;
		uint8_t c = is_end ? end_mark : content[i];

		group_symbol<G, false>(s, &coder, c);
		if (!item->bounded && c == end_mark)
			coder_bit(&coder, false, is_end, END_PROBABILITY);
		if (!is_end)
			group_update(s, c);
	}
	if (!coder.over)
		coder_flush(&coder);
	*made = (uint32_t) coder.at;
	return coder.over ? NBMF_ERR_SPACE : NBMF_OK;
}

/* decode_document; all lanes write the same, so that each sees it */
template <unsigned G>
NEURAL_INLINE NbmfStatus
group_decode(GroupState<G> &s, const BatchItem *item, uint8_t *content, const uint8_t *payload,
			 uint32_t *made)
{
	NeuralCoder coder = {.high = UINT64_MAX, .in = payload, .end = item->payload_len};
	uint8_t end_mark = (uint8_t) s.image->end_mark;
	uint32_t at = 0;

	for (unsigned i = 0; i < LOOK_AHEAD; i++)
		coder.code = coder.code << 8 | coder_next(&coder);
	while (!item->bounded || at < item->content_len)
	{
		uint8_t c = group_symbol<G, true>(s, &coder, 0);

		if (coder.over)
			return NBMF_ERR_PAYLOAD;
		if (!item->bounded && c == end_mark && coder_bit(&coder, true, false, END_PROBABILITY))
			break;
		if (at == item->content_len)
			return NBMF_ERR_PAYLOAD;
		content[at++] = c;
		group_update(s, c);
	}
	*made = at;
	return coder.over ? NBMF_ERR_PAYLOAD : NBMF_OK;
}

template <unsigned G, bool decode>
NEURAL_INLINE void
group_item(const Batch *batch, uint32_t slot, uint32_t *path, uint32_t number)
{
	GroupState<G> s;
	BatchItem item = batch->items[number];
	uint8_t *content = batch->content + item.content_at;
	uint8_t *payload = batch->payload + item.payload_at;
	uint32_t made = 0;
	NbmfStatus status;

	group_begin(s, batch, slot, path, content);
	if (decode)
		status = group_decode(s, &item, content, payload, &made);
	else
		status = group_encode(s, &item, content, payload, &made);
	batch->bases[slot] = s.base + s.pos + 2;
	batch->items[number].made = made;
	batch->items[number].status = (uint8_t) status;
}

#ifdef __CUDACC__

/* Groups take documents until none is left, so that a long one holds up no other */
template <unsigned G, bool decode, unsigned R>
__global__ void
__launch_bounds__(GROUP_BLOCK_MAX, R) group_kernel(Batch batch)
{
	extern __shared__ uint32_t paths[];
	uint32_t slot = (blockIdx.x * blockDim.x + threadIdx.x) / G;
	uint32_t *path = paths + threadIdx.x / G * NEURAL_DEPTH;

	if (slot >= batch.slots)
		return;
	for (;;)
	{
		Lanes<uint32_t, G> taken;
		uint32_t number;

		EACH_LANE (i)
			taken[i] = i == 0 ? atomicAdd(batch.taken, 1) : 0;
		number = share(taken, 0);
		if (number >= batch.count)
			return;
		group_item<G, decode>(&batch, slot, path, number);
		group_sync<G>();
	}
}

typedef void (*GroupKernel)(Batch);

template <unsigned G, unsigned R>
static GroupKernel
of_direction(bool decode)
{
	return decode ? group_kernel<G, true, R> : group_kernel<G, false, R>;
}

template <unsigned G>
static GroupKernel
of_lanes(bool decode, unsigned resident)
{
	switch (resident)
	{
		case 2:
			return of_direction<G, 2>(decode);
		case 4:
			return of_direction<G, 4>(decode);
		case 6:
			return of_direction<G, 6>(decode);
		case 8:
			return of_direction<G, 8>(decode);
	}
	return nullptr;
}

static GroupKernel
of_shape(const BatchShape *shape, bool decode)
{
	return shape->lanes == 16 ? of_lanes<16>(decode, shape->resident)
							  : of_lanes<32>(decode, shape->resident);
}

static size_t
shared_size(const BatchShape *shape)
{
	return shape->block / shape->lanes * NEURAL_DEPTH * sizeof(uint32_t);
}

unsigned
group_slots(const BatchShape *shape)
{
	int device = 0;
	int processors = 0;
	int most = 0;

	if (of_shape(shape, false) == nullptr || shape->block > GROUP_BLOCK_MAX ||
		shape->block % 32 != 0 || cudaGetDevice(&device) != cudaSuccess ||
		cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
		return 0;
	for (unsigned decode = 0; decode < 2; decode++)
	{
		int blocks = 0;

		if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, of_shape(shape, decode != 0),
														  (int) shape->block,
														  shared_size(shape)) != cudaSuccess)
			return 0;
		most = blocks > most ? blocks : most;
	}
	return (unsigned) (processors * most) * (shape->block / shape->lanes);
}

void
group_run(const Batch *batch, bool decode, const BatchShape *shape)
{
	unsigned groups = shape->block / shape->lanes;
	unsigned blocks = (batch->slots + groups - 1) / groups;

	of_shape(shape, decode)<<<blocks, shape->block, shared_size(shape)>>>(*batch);
}

#else

unsigned
group_slots(const BatchShape *shape)
{
	(void) shape;
	return UINT32_MAX;
}

void
group_run(const Batch *batch, bool decode, const BatchShape *shape)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		uint32_t path[NEURAL_DEPTH];
		uint32_t slot = i % batch->slots;

		if (shape->lanes == 16)
			decode ? group_item<16, true>(batch, slot, path, i)
				   : group_item<16, false>(batch, slot, path, i);
		else
			decode ? group_item<32, true>(batch, slot, path, i)
				   : group_item<32, false>(batch, slot, path, i);
	}
}

#endif
