/*
 * device.h
 *		The neural codec's own headers, as they are, for a device compiler; and as
 *		C++ for the host, where the same kernels run in a loop.
 *
 * What a state indexes by data lies apart from it (NEURAL_STATE_APART): 64 KB of
 * match tables in global memory, and the path of keys.
 */
#ifndef NBMF_TEST_CUDA_DEVICE_H
#define NBMF_TEST_CUDA_DEVICE_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#define NEURAL_STATE_APART
#define _Static_assert static_assert
#ifdef __CUDACC__
#include <cuda_runtime.h>
#define NEURAL_DEVICE         __device__
#define __builtin_ctz(x)      (__ffs((int) (x)) - 1)
#define __builtin_prefetch(x) ((void) (x))
#endif

extern "C"
{
#include "codec/neural_code.h"
}

#endif /* NBMF_TEST_CUDA_DEVICE_H */
