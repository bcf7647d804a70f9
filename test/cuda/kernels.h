/*
 * kernels.h
 *		What the files of the device share: a batch as its kernels see it.
 *
 * A slot is what works on one document at a time: a thread, or a group of lanes.
 * Its match tables, 64 KB, are zeros before the first document and are kept with
 * its base from then on, as a thread's NeuralState is on the processor.
 */
#ifndef NBMF_TEST_CUDA_KERNELS_H
#define NBMF_TEST_CUDA_KERNELS_H

#include "batch.h"
#include "device.h"

typedef uint32_t MatchTables[2][1 << NEURAL_MATCH_BITS];

typedef struct Batch
{
	const NeuralImage *image;
	MatchTables *tables; /* of each slot */
	uint32_t *bases;     /* of each slot */
	uint32_t slots;
	uint32_t count;
	uint32_t *taken; /* documents that groups have taken; zero at first */
	BatchItem *items;
	uint8_t *content;
	uint8_t *payload;
} Batch;

/* Slots that keep the device busy, 0 for an impossible shape; run a batch of no more slots */
extern unsigned thread_slots(const BatchShape *shape);
extern void thread_run(const Batch *batch, bool decode, const BatchShape *shape);
extern unsigned group_slots(const BatchShape *shape);
extern void group_run(const Batch *batch, bool decode, const BatchShape *shape);

#endif /* NBMF_TEST_CUDA_KERNELS_H */
