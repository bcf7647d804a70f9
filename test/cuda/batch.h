/*
 * batch.h
 *		Many documents at once on a device, with one model.
 *
 * neural_device.cu does it on a GPU, neural_emulated.cc with the same kernels on
 * the processor.  One batch at a time; no history.
 */
#ifndef NBMF_TEST_CUDA_BATCH_H
#define NBMF_TEST_CUDA_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

	/* One document, at its places in the two buffers of a batch */
	typedef struct BatchItem
	{
		uint64_t content_at;
		uint64_t payload_at;
		uint32_t content_len; /* encoding: its length; decoding: the room */
		uint32_t payload_len; /* encoding: the room; decoding: its length */
		uint32_t made;        /* result: length of what was made, if status is NBMF_OK */
		uint8_t bounded;      /* the long form */
		uint8_t status;       /* result: an NbmfStatus */
	} BatchItem;

	/* How the work is divided */
	typedef struct BatchShape
	{
		unsigned lanes; /* of a document: 1, 16 or 32 */
		unsigned block; /* threads of a block: 32, 64 .. 256 */
		/*
	 * For how many times 256 threads of a processor the registers must do: one lane 1
	 * or 2, several 2, 4, 6 or 8.
	 */
		unsigned resident;
	} BatchShape;

	typedef struct BatchTimes
	{
		double kernel;         /* seconds of the kernel */
		double with_transfers; /* and of the copies to the device and back */
	} BatchTimes;

	/* Name of the device, NULL where there is none */
	extern const char *batch_device(void);

	/* Memory that the device copies fast from and to; lives until the program ends */
	extern void *batch_alloc(size_t size);

	/*
 * Bring a model to the device, and make room there for batches of so many
 * documents and bytes.  All of these say on stderr what went wrong.
 */
	extern bool batch_open(const void *image, size_t image_len, size_t items, size_t content_room,
						   size_t payload_room);

	/* All of both buffers goes to the device; what is made, and the items, come back */
	extern bool batch_run(const BatchShape *shape, bool decode, BatchItem *items, size_t count,
						  uint8_t *content, size_t content_len, uint8_t *payload,
						  size_t payload_len, BatchTimes *times);

	extern void batch_close(void);

#ifdef __cplusplus
}
#endif

#endif /* NBMF_TEST_CUDA_BATCH_H */
