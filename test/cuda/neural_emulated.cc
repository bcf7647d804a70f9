/*
 * neural_emulated.cc
 *		The batches of batch.h without a device: the same kernels, compiled for the
 *		processor, so that what they compute can be tried anywhere.
 */
#include "kernels.h"

#include <cstdlib>

#define SLOTS 64

static Batch batch;

const char *
batch_device(void)
{
	return "emulated";
}

void *
batch_alloc(size_t size)
{
	return malloc(size);
}

bool
batch_open(const void *image, size_t image_len, size_t items, size_t content_room,
		   size_t payload_room)
{
	void *copy = nullptr;

	(void) items;
	(void) content_room;
	(void) payload_room;
	if (posix_memalign(&copy, NEURAL_LINE, image_len) != 0)
		return false;
	memcpy(copy, image, image_len);
	batch.image = static_cast<const NeuralImage *>(copy);
	batch.tables = static_cast<MatchTables *>(calloc(SLOTS, sizeof(MatchTables)));
	batch.bases = static_cast<uint32_t *>(calloc(SLOTS, sizeof(uint32_t)));
	/* one whose tables must be cleared soon */
	batch.bases[1] = UINT32_C(0x80000000) - NEURAL_HISTORY_MAX;
	return batch.tables != nullptr && batch.bases != nullptr;
}

bool
batch_run(const BatchShape *shape, bool decode, BatchItem *items, size_t count, uint8_t *content,
		  size_t content_len, uint8_t *payload, size_t payload_len, BatchTimes *times)
{
	(void) content_len;
	(void) payload_len;
	batch.slots = SLOTS;
	batch.count = (uint32_t) count;
	batch.items = items;
	batch.content = content;
	batch.payload = payload;
	if (shape->lanes == 1)
		thread_run(&batch, decode, shape);
	else
		group_run(&batch, decode, shape);
	*times = BatchTimes{};
	return true;
}

void
batch_close(void)
{
	free(const_cast<NeuralImage *>(batch.image));
	free(batch.tables);
	free(batch.bases);
}
