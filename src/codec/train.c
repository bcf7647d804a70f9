/*
 * train.c
 *		Training a dictionary, and measuring what one is worth.
 *
 * Training is libzstd's fastCover (ZDICT): segments of k bytes that cover the
 * most frequent d-byte strings of the sample, with entropy tables in front.
 * Which k, d and size suit a column is not known beforehand; the caller tries
 * some and measures each on documents that the training has not seen.
 */
#include "codec/codec.h"

#include <stdlib.h>
#define ZDICT_STATIC_LINKING_ONLY
#include <zdict.h>

/* A varlena of up to this length has a 1-byte header, a longer one 4 bytes */
#define VARLENA_SHORT_MAX 127

/* fastCover's table has 2^f slots; 20 is libzstd's own default */
#define FASTCOVER_F 20

/*
 * Train a dictionary of at most cap bytes.  k is the segment size (16 ..), d 6
 * or 8.  NBMF_ERR_CONTENT says that the sample is too small or too uniform to
 * learn from, which is no fault.
 */
NbmfStatus
nbmf_dict_train(const NbmfSample *sample, unsigned k, unsigned d, int level, void *dict, size_t cap,
				size_t *dict_len)
{
	ZDICT_fastCover_params_t params = {.k = k,
									   .d = d,
									   .f = FASTCOVER_F,
									   .steps = 1,
									   .nbThreads = 1,
									   .splitPoint = 1.0,
									   .accel = 1,
									   .zParams = {.compressionLevel = level}};
	size_t result;

	if (sample->count == 0 || sample->count > UINT32_MAX)
		return NBMF_ERR_CONTENT;
	result = ZDICT_trainFromBuffer_fastCover(dict, cap, sample->bytes, sample->sizes,
											 (unsigned) sample->count, params);
	if (ZDICT_isError(result))
		return NBMF_ERR_CONTENT;
	*dict_len = result;
	return NBMF_OK;
}

/*
 * Bytes that the values of a sample take, encoded with params, their varlena
 * headers included: their sum, and the sum of their squares.
 */
NbmfStatus
nbmf_sample_cost(NbmfWorkspace *ws, const NbmfEncodeParams *params, const NbmfSample *sample,
				 uint64_t *bytes, double *squares)
{
	const uint8_t *content = sample->bytes;
	size_t cap = 0;
	uint8_t *frame;
	NbmfStatus status = NBMF_OK;

	*bytes = 0;
	*squares = 0;
	for (size_t i = 0; i < sample->count; i++)
		if (sample->sizes[i] > cap)
			cap = sample->sizes[i];
	cap = nbmf_encode_bound(cap);
	frame = malloc(cap);
	if (frame == NULL)
		return NBMF_ERR_MEMORY;
	for (size_t i = 0; i < sample->count && status == NBMF_OK; i++)
	{
		size_t frame_len = 0;

		status = nbmf_encode(ws, params, content, sample->sizes[i], frame, cap, &frame_len);
		frame_len += frame_len + 1 <= VARLENA_SHORT_MAX ? 1 : 4;
		*bytes += frame_len;
		*squares += (double) frame_len * (double) frame_len;
		if (status == NBMF_OK && params->interrupted != NULL && params->interrupted())
			status = NBMF_ERR_INTERRUPTED;
		content += sample->sizes[i];
	}
	free(frame);
	return status;
}
