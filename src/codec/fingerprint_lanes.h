/*
 * fingerprint_lanes.h
 *		What is needed where words are hashed WORDS at a time, and not all are short.
 *
 * The file that includes this has defined
 *
 *	WORDS
 *	put_word_sums(p, marks, sums): the sums of WORDS words of at most 16 bytes
 */
#ifndef NBMF_FINGERPRINT_LANES_H
#define NBMF_FINGERPRINT_LANES_H

/*
 * The sums of the next WORDS of count words; returns how many these are, up to the
 * first that is longer than a word may be.
 */
static size_t
long_word_sums(const uint8_t *p, const uint16_t *marks, size_t count, uint64_t *sums)
{
	uint16_t short_marks[2 * WORDS] = {0};
	size_t usable;

	for (usable = 0; usable < count && usable < WORDS; usable++)
	{
		const uint16_t *m = marks + 2 * usable;

		if (m[1] - m[0] > NBMF_WORD_MAX)
			break;
		if (m[1] - m[0] <= 16)
			memcpy(short_marks + 2 * usable, m, 2 * sizeof(*m));
	}
	put_word_sums(p, short_marks, sums);
	for (size_t i = 0; i < usable; i++)
	{
		size_t len = (size_t) (marks[2 * i + 1] - marks[2 * i]);

		if (len > 16)
			sums[i] = nbmf_fp_word_sum(p + marks[2 * i], len);
	}
	return usable;
}

#endif /* NBMF_FINGERPRINT_LANES_H */
