/*
 * neural_device.cu
 *		The batches of batch.h on a GPU: memory, transfers, and which kernel runs.
 */
#include "kernels.h"

#include <chrono>
#include <cstdio>

/* Of what is free, for match tables */
#define TABLES_SHARE 0.7

static Batch batch;
static uint32_t slots;
static size_t item_room;
static size_t content_size;
static size_t payload_size;

static bool
good(cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return true;
	fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
	return false;
}

const char *
batch_device(void)
{
	static cudaDeviceProp properties;
	int count = 0;

	if (cudaGetDeviceCount(&count) != cudaSuccess || count < 1 ||
		cudaGetDeviceProperties(&properties, 0) != cudaSuccess)
		return nullptr;
	return properties.name;
}

void *
batch_alloc(size_t size)
{
	void *memory = nullptr;

	return good(cudaMallocHost(&memory, size), "memory of the host") ? memory : nullptr;
}

bool
batch_open(const void *image, size_t image_len, size_t items, size_t content_room,
		   size_t payload_room)
{
	void *copy = nullptr;
	size_t free_bytes = 0;
	size_t total_bytes = 0;
	size_t most;

	if (!good(cudaMalloc(&copy, image_len), "memory of the model") ||
		!good(cudaMemcpy(copy, image, image_len, cudaMemcpyHostToDevice), "copying the model") ||
		!good(cudaMalloc(&batch.items, items * sizeof(BatchItem)), "memory of the items") ||
		!good(cudaMalloc(&batch.content, content_room), "memory of the content") ||
		!good(cudaMalloc(&batch.payload, payload_room), "memory of the payload") ||
		!good(cudaMalloc(&batch.taken, sizeof(uint32_t)), "memory of a counter") ||
		!good(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for memory"))
		return false;
	batch.image = static_cast<const NeuralImage *>(copy);
	most = (size_t) ((double) free_bytes * TABLES_SHARE) / sizeof(MatchTables);
	slots = (uint32_t) (items < most ? items : most);
	item_room = items;
	content_size = content_room;
	payload_size = payload_room;
	return good(cudaMalloc(&batch.tables, slots * sizeof(MatchTables)), "memory of the tables") &&
		   good(cudaMalloc(&batch.bases, slots * sizeof(uint32_t)), "memory of the bases") &&
		   good(cudaMemset(batch.tables, 0, slots * sizeof(MatchTables)), "clearing tables") &&
		   good(cudaMemset(batch.bases, 0, slots * sizeof(uint32_t)), "clearing bases") &&
		   good(cudaDeviceSynchronize(), "clearing");
}

bool
batch_run(const BatchShape *shape, bool decode, BatchItem *items, size_t count, uint8_t *content,
		  size_t content_len, uint8_t *payload, size_t payload_len, BatchTimes *times)
{
	unsigned most = shape->lanes == 1 ? thread_slots(shape) : group_slots(shape);
	std::chrono::steady_clock::time_point start;
	cudaEvent_t before;
	cudaEvent_t after;
	float milliseconds = 0;
	bool done;

	if (count == 0 || count > item_room || content_len > content_size ||
		payload_len > payload_size || most == 0)
	{
		fprintf(stderr, "batch too large, or no such block\n");
		return false;
	}
	batch.count = (uint32_t) count;
	batch.slots = most < slots ? most : slots;
	if (batch.slots > batch.count)
		batch.slots = batch.count;
	if (!good(cudaEventCreate(&before), "event") || !good(cudaEventCreate(&after), "event"))
		return false;

	/* what is to be made is sent as well, so that what is written beside it can be seen */
	if (decode ? !good(cudaMemcpy(batch.content, content, content_len, cudaMemcpyHostToDevice),
					   "copying content")
			   : !good(cudaMemcpy(batch.payload, payload, payload_len, cudaMemcpyHostToDevice),
					   "copying payloads"))
		return false;
	start = std::chrono::steady_clock::now();
	done =
		good(cudaMemcpyAsync(batch.items, items, count * sizeof(*items), cudaMemcpyHostToDevice),
			 "copying items") &&
		(decode ? good(cudaMemcpyAsync(batch.payload, payload, payload_len, cudaMemcpyHostToDevice),
					   "copying payloads")
				: good(cudaMemcpyAsync(batch.content, content, content_len, cudaMemcpyHostToDevice),
					   "copying content")) &&
		good(cudaMemsetAsync(batch.taken, 0, sizeof(uint32_t)), "clearing the counter") &&
		good(cudaEventRecord(before), "event");
	if (!done)
		return false;
	if (shape->lanes == 1)
		thread_run(&batch, decode, shape);
	else
		group_run(&batch, decode, shape);
	done =
		good(cudaGetLastError(), "starting the kernel") && good(cudaEventRecord(after), "event") &&
		(decode ? good(cudaMemcpyAsync(content, batch.content, content_len, cudaMemcpyDeviceToHost),
					   "copying content back")
				: good(cudaMemcpyAsync(payload, batch.payload, payload_len, cudaMemcpyDeviceToHost),
					   "copying payloads back")) &&
		good(cudaMemcpyAsync(items, batch.items, count * sizeof(*items), cudaMemcpyDeviceToHost),
			 "copying items back") &&
		good(cudaDeviceSynchronize(), "running the kernel");
	if (!done)
		return false;
	times->with_transfers =
		std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
	done = good(cudaEventElapsedTime(&milliseconds, before, after), "time of the kernel");
	times->kernel = milliseconds * 1e-3;
	cudaEventDestroy(before);
	cudaEventDestroy(after);
	return done;
}

void
batch_close(void)
{
	cudaFree(const_cast<NeuralImage *>(batch.image));
	cudaFree(batch.tables);
	cudaFree(batch.bases);
	cudaFree(batch.taken);
	cudaFree(batch.items);
	cudaFree(batch.content);
	cudaFree(batch.payload);
}
