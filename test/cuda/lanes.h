/*
 * lanes.h
 *		Values of which each lane of a group has its own.
 *
 * On the device a group is G neighbours of a warp, G 16 or 32, a Lanes<T, G> is a
 * register of each, and EACH_LANE runs its statement once, in all of them.  On the
 * host it is an array, and EACH_LANE a loop; so the same source can be tried
 * without a device.  Everything that is not in Lanes is the same in all lanes,
 * and so is every branch around a vote, share or sum.
 */
#ifndef NBMF_TEST_CUDA_LANES_H
#define NBMF_TEST_CUDA_LANES_H

#include "device.h"

#ifdef __CUDACC__

#define EACH_LANE(i) if (const unsigned i = threadIdx.x & (G - 1); true)

template <class T, unsigned G> struct Lanes
{
	T own;

	__device__ __forceinline__ T &operator[](unsigned)
	{
		return own;
	}

	__device__ __forceinline__ const T &operator[](unsigned) const
	{
		return own;
	}
};

template <unsigned G>
__device__ __forceinline__ uint32_t
group_members()
{
	return G == 32 ? 0xffffffffu : 0xffffu << (threadIdx.x & 16);
}

/* Lanes for which p is true, as bits */
template <unsigned G>
__device__ __forceinline__ uint32_t
vote(const Lanes<bool, G> &p)
{
	uint32_t all = __ballot_sync(group_members<G>(), p.own);

	return G == 32 ? all : all >> (threadIdx.x & 16) & 0xffff;
}

/* What one lane has */
template <unsigned G>
__device__ __forceinline__ uint32_t
share(const Lanes<uint32_t, G> &v, unsigned lane)
{
	return __shfl_sync(group_members<G>(), v.own, (int) lane, (int) G);
}

template <unsigned G>
__device__ __forceinline__ int32_t
sum(const Lanes<int32_t, G> &v)
{
	int32_t total = v.own;

#if __CUDA_ARCH__ >= 800
	if constexpr (G == 32)
		return __reduce_add_sync(0xffffffffu, total);
	else
#endif
	{
		for (int other = (int) G / 2; other > 0; other /= 2)
			total += __shfl_xor_sync(group_members<G>(), total, other, (int) G);
		return total;
	}
}

/* What a lane has written is seen by the others */
template <unsigned G>
__device__ __forceinline__ void
group_sync()
{
	__syncwarp(group_members<G>());
}

#else

#define EACH_LANE(i) for (unsigned i = 0; i < G; i++)

template <class T, unsigned G> struct Lanes
{
	T each[G];

	T &operator[](unsigned i)
	{
		return each[i];
	}

	const T &operator[](unsigned i) const
	{
		return each[i];
	}
};

template <unsigned G>
static inline uint32_t
vote(const Lanes<bool, G> &p)
{
	uint32_t all = 0;

	EACH_LANE (i)
		all |= (uint32_t) p[i] << i;
	return all;
}

template <unsigned G>
static inline uint32_t
share(const Lanes<uint32_t, G> &v, unsigned lane)
{
	return v[lane % G];
}

template <unsigned G>
static inline int32_t
sum(const Lanes<int32_t, G> &v)
{
	int32_t total = 0;

	EACH_LANE (i)
		total += v[i];
	return total;
}

template <unsigned G>
static inline void
group_sync()
{
}

#endif /* __CUDACC__ */

#endif /* NBMF_TEST_CUDA_LANES_H */
