/*
 * fingerprint_lanes.h
 *		Words hashed several at a time, a lane of 64 bits for each.
 *
 * The file that includes this has defined
 *
 *	WORDS, Lanes: how many, and a vector of as many lanes
 *	all_lanes(x), load_lanes(p), store_lanes(p, v)
 *	later(v, before): each lane of v one further on; the last one of before is first
 *	fold(v), join(a, b, a_key, b_key): nbmf_fp_fold, nbmf_fp_join in each lane
 *	any_long(marks): is any of WORDS words longer than 16 bytes?
 *	word_sums(p, marks): nbmf_fp_word_sum of WORDS words of at most 16 bytes
 *	put_both(pair, triple, to), put_one(triple, to): write the features
 */
#ifndef NBMF_FINGERPRINT_LANES_H
#define NBMF_FINGERPRINT_LANES_H

/*
 * The sums of the next WORDS of count words, of which some are longer; "usable" is set
 * to how many these are, up to the first that is longer than a word may be.
 */
static Lanes
long_word_sums(const uint8_t *p, const uint16_t *marks, size_t count, size_t *usable)
{
	uint16_t short_marks[2 * WORDS] = {0};
	uint64_t sums[WORDS];
	size_t n;

	for (n = 0; n < count && n < WORDS; n++)
	{
		const uint16_t *m = marks + 2 * n;

		if (m[1] - m[0] > NBMF_WORD_MAX)
			break;
		if (m[1] - m[0] <= 16)
			memcpy(short_marks + 2 * n, m, 2 * sizeof(*m));
	}
	store_lanes(sums, word_sums(p, short_marks));
	for (size_t i = 0; i < n; i++)
	{
		size_t len = (size_t) (marks[2 * i + 1] - marks[2 * i]);

		if (len > 16)
			sums[i] = nbmf_fp_word_sum(p + marks[2 * i], len);
	}
	*usable = n;
	return load_lanes(sums);
}

static size_t
hash_words(const uint8_t *p, const uint16_t *marks, size_t count, bool pairs, NbmfBefore *before,
		   uint32_t *to)
{
	Lanes word = all_lanes(before->word);
	Lanes pair = all_lanes(before->pair);
	uint64_t last[WORDS];
	size_t done = 0;

	for (; done < count; done += WORDS, marks += 2 * WORDS)
	{
		Lanes word_before = word;
		Lanes pair_before = pair;
		Lanes triple;

		if (any_long(marks))
		{
			size_t usable;
			Lanes sums = long_word_sums(p, marks, count - done, &usable);

			if (usable < WORDS)
				count = done + usable;
			if (usable == 0)
				break;
			word = fold(sums);
		}
		else
			word = fold(word_sums(p, marks));
		pair = join(later(word, word_before), word, NBMF_FP_PAIR_A, NBMF_FP_PAIR_B);
		triple = join(later(pair, pair_before), word, NBMF_FP_TRIPLE_A, NBMF_FP_TRIPLE_B);
		if (pairs)
		{
			put_both(pair, triple, to);
			to += 2 * WORDS;
		}
		else
		{
			put_one(triple, to);
			to += WORDS;
		}
	}
	if (count == 0)
		return 0;
	store_lanes(last, word);
	before->word = (uint32_t) last[(count - 1) % WORDS];
	store_lanes(last, pair);
	before->pair = (uint32_t) last[(count - 1) % WORDS];
	return count;
}

#endif /* NBMF_FINGERPRINT_LANES_H */
