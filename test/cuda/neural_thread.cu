/*
 * neural_thread.cu
 *		A document to each thread: the codec exactly as the processor has it.
 *
 * Not the fast way, but the proof that the shared headers mean the same there.
 */
#include "kernels.h"

NEURAL_DEVICE static void
thread_item(const Batch *batch, uint32_t slot, bool decode, BatchItem *item)
{
	NeuralState s;
	uint32_t path[NEURAL_DEPTH];
	uint8_t *content = batch->content + item->content_at;
	uint8_t *payload = batch->payload + item->payload_at;
	size_t made = 0;

	s.base = batch->bases[slot];
	s.match_table = batch->tables[slot];
	neural_begin(&s, nullptr, 0, content);
	memset(path, 0, sizeof(path));
	s.reader.path = path;
	if (decode)
		item->status = (uint8_t) decode_document(&s, batch->image, payload, item->payload_len,
												 item->bounded, content, item->content_len, &made);
	else
		item->status = (uint8_t) encode_document(&s, batch->image, content, item->content_len,
												 item->bounded, payload, item->payload_len, &made);
	item->made = (uint32_t) made;
	neural_finish(&s);
	batch->bases[slot] = s.base;
}

#ifdef __CUDACC__

template <bool decode, unsigned R>
__global__ void __launch_bounds__(256, R) thread_kernel(Batch batch)
{
	uint32_t slot = blockIdx.x * blockDim.x + threadIdx.x;

	for (uint32_t i = slot; slot < batch.slots && i < batch.count; i += batch.slots)
		thread_item(&batch, slot, decode, &batch.items[i]);
}

typedef void (*ThreadKernel)(Batch);

static ThreadKernel
of_shape(const BatchShape *shape, bool decode)
{
	if (shape->resident == 1)
		return decode ? thread_kernel<true, 1> : thread_kernel<false, 1>;
	if (shape->resident == 2)
		return decode ? thread_kernel<true, 2> : thread_kernel<false, 2>;
	return nullptr;
}

/* As many as there are documents: one that waits for another would double the time */
unsigned
thread_slots(const BatchShape *shape)
{
	return of_shape(shape, false) != nullptr && shape->block <= 256 ? UINT32_MAX : 0;
}

void
thread_run(const Batch *batch, bool decode, const BatchShape *shape)
{
	unsigned blocks = (batch->slots + shape->block - 1) / shape->block;

	of_shape(shape, decode)<<<blocks, shape->block>>>(*batch);
}

#else

unsigned
thread_slots(const BatchShape *shape)
{
	(void) shape;
	return UINT32_MAX;
}

void
thread_run(const Batch *batch, bool decode, const BatchShape *shape)
{
	(void) shape;
	for (uint32_t i = 0; i < batch->count; i++)
		thread_item(batch, i % batch->slots, decode, &batch->items[i]);
}

#endif
