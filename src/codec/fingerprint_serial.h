/*
 * fingerprint_serial.h
 *		Words hashed one by one, where they are not hashed several at a time
 *		(fingerprint_lanes.h).
 *
 * The file that includes this has defined word_sum(p, len): nbmf_fp_word_sum.
 */
#ifndef NBMF_FINGERPRINT_SERIAL_H
#define NBMF_FINGERPRINT_SERIAL_H

static inline size_t
put_marks(uint64_t bits, unsigned base, uint16_t *marks)
{
	size_t n = 0;

	for (; bits != 0; bits &= bits - 1)
		marks[n++] = (uint16_t) (base + (unsigned) __builtin_ctzll(bits));
	return n;
}

static inline size_t
hash_words(const uint8_t *p, const uint16_t *marks, size_t count, bool pairs, NbmfBefore *before,
		   uint32_t *to)
{
	NbmfBefore b = *before;
	size_t i;

	for (i = 0; i < count; i++, marks += 2)
	{
		size_t len = (size_t) (marks[1] - marks[0]);
		uint32_t word;
		uint32_t pair;

		if (len > NBMF_WORD_MAX)
			break;
		word = nbmf_fp_fold(word_sum(p + marks[0], len));
		pair = nbmf_fp_join(b.word, word, NBMF_FP_PAIR_A, NBMF_FP_PAIR_B);
		if (pairs)
			*to++ = pair;
		*to++ = nbmf_fp_join(b.pair, word, NBMF_FP_TRIPLE_A, NBMF_FP_TRIPLE_B);
		b.word = word;
		b.pair = pair;
	}
	*before = b;
	return i;
}

#endif /* NBMF_FINGERPRINT_SERIAL_H */
