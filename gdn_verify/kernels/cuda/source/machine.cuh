// The machine, on NVIDIA: everything that C++ has no word for, as small functions, and nothing else.
//
// Kernels call these and contain no PTX and no intrinsic of their own. `emulated/machine.h` says the same names for a
// plain processor. A kernel's arithmetic is compiled without contraction (`--fmad=false`): what shall be one rounding is
// written `fused`, so that both machines round the same products.

#define INLINE static __forceinline__ __device__
#define INLINE_MEMBER __forceinline__ __device__
#define KERNEL(name) \
  extern "C" __global__ void __launch_bounds__(THREADS, LEAST_BLOCKS) name(const __grid_constant__ Arguments a)
#define SHARED(Type, name) __shared__ Type name

using int64 = long long;
using uint32 = unsigned int;
using uint16 = unsigned short;

struct Bfloat16 {
  uint16 bits;
};
struct Float16 {
  uint16 bits;
};
template <class T>
constexpr bool IS_BFLOAT16 = false;
template <>
constexpr bool IS_BFLOAT16<Bfloat16> = true;

// Shared memory of a fixed size; the emulated machine checks each index.
template <class T, int N>
struct alignas(16) Array {
  T item[N];
  __device__ T &operator[](int i) { return item[i]; }
};

INLINE int thread_index() { return threadIdx.x; }

// A number of which the compiler is told that it is at least 0 and below COUNT.
template <int COUNT>
INLINE int below(int x) {
  __builtin_assume(x >= 0 && x < COUNT);
  return x;
}
INLINE int block_x() { return blockIdx.x; }
INLINE int block_y() { return blockIdx.y; }

INLINE void block_barrier() { __syncthreads(); }

// The value of the lane whose number differs in these bits; all lanes of a warp call it together.
INLINE float of_lane_xor(float value, int bits) { return __shfl_xor_sync(0xffffffffu, value, bits); }

// The value of another lane; all lanes of a warp call it together, each for a lane of its choice.
INLINE float of_lane(float value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
INLINE double of_lane(double value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }

// What the lanes of a warp have written is seen by all of them.
INLINE void warp_barrier() { __syncwarp(); }

// A barrier of some of a block's warps, `threads` in all, by its number from 1 on: who meets waits for all, who arrives
// waits for nobody. Who has met sees what was written before, and may overwrite what was read before.
INLINE void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
INLINE void arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// So many registers a thread from now on, for all warps of a group of four: those that need few leave them to the others,
// which wait until there are enough. Where a chip cannot, all have what the launch gave them.
template <int COUNT>
INLINE void leave_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}
template <int COUNT>
INLINE void take_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

// Programmatic dependent launch. The next kernel in the stream may begin as soon as all blocks have said the first; what
// it may not do is look at memory before its own `wait_for_preceding`. Neither does anything in an ordinary launch.
INLINE void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

INLINE void wait_for_preceding() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The barrier of a cluster in its two halves. Arriving is no release, which would wait until all stores of the thread
// have come to memory: who has waited knows that all have arrived, that what they loaded and used is theirs, and that
// their mailboxes are open, and not what they stored.
INLINE void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

INLINE void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

INLINE uint32 shared_address(const void *shared) {
  uint32 address;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(address) : "l"(shared));
  return address;
}

// Where blocks of a cluster send numbers to, once: a barrier that counts bytes.
struct Mailbox {
  alignas(8) unsigned long long barrier;
};

// By one thread, before it arrives at the cluster's barrier: so many numbers will come.
INLINE void open_mailbox(Mailbox &box, int numbers) {
#if __CUDA_ARCH__ >= 900
  const uint32 barrier = shared_address(&box);
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(numbers * 4) : "memory");
#endif
}

// Writes a number into the shared memory of block `rank` of the cluster, where this block has `own`, by itself: the
// stores before it need not have come to memory.
INLINE void send(float &own, int rank, float value, Mailbox &box) {
#if __CUDA_ARCH__ >= 900
  uint32 there, barrier;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(&own)), "r"(rank));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(barrier) : "r"(shared_address(&box)), "r"(rank));
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(there),
               "r"(__float_as_uint(value)), "r"(barrier)
               : "memory");
#endif
}

// Until all numbers have come; then they are seen.
INLINE void wait_for_mail(Mailbox &box) {
#if __CUDA_ARCH__ >= 900
  const uint32 barrier = shared_address(&box);
  uint32 come = 0;
  while (!come)
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
        : "=r"(come)
        : "r"(barrier)
        : "memory");
#endif
}

// Adds to a counter and returns what it held: all that this block did before its last barrier is seen by whoever
// takes a later ticket.
INLINE int64 take_ticket(int64 *counter, int64 amount) {
  int64 held;
  asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;" : "=l"(held) : "l"(counter), "l"(amount) : "memory");
  return held;
}

// A number that another block of this launch has written.
INLINE float load_fresh(const float *p) {
  float value;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(p) : "memory");
  return value;
}

template <int BYTES>
struct Words {
  uint32 word[BYTES / 4];
};
template <>
struct Words<2> {
  uint16 half;
};

// What is at an address, or 0; without a branch, behind which the compiler would look at what was loaded before it.
INLINE uint32 load_if(bool there, const uint32 *p) {
  uint32 value;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %2, 0; mov.u32 %0, 0; @p ld.global.u32 %0, [%1]; }"
               : "=r"(value)
               : "l"(p), "r"(static_cast<uint32>(there)));
  return value;
}

// BYTES at an address that is a multiple of them, for numbers that are read once.
template <int BYTES>
INLINE Words<BYTES> load_words(const void *p) {
  Words<BYTES> w;
  if constexpr (BYTES == 16)
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "l"(p));
  else if constexpr (BYTES == 8)
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(w.word[0]), "=r"(w.word[1]) : "l"(p));
  else if constexpr (BYTES == 4)
    asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(w.word[0]) : "l"(p));
  else
    asm volatile("ld.global.L1::no_allocate.u16 %0, [%1];" : "=h"(w.half) : "l"(p));
  return w;
}

template <int BYTES>
INLINE void store_words(void *p, const Words<BYTES> &w) {
  if constexpr (BYTES == 16)
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(w.word[0]), "r"(w.word[1]), "r"(w.word[2]),
                 "r"(w.word[3])
                 : "memory");
  else if constexpr (BYTES == 8)
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(w.word[0]), "r"(w.word[1]) : "memory");
  else if constexpr (BYTES == 4)
    asm volatile("st.global.u32 [%0], %1;" ::"l"(p), "r"(w.word[0]) : "memory");
  else
    asm volatile("st.global.u16 [%0], %1;" ::"l"(p), "h"(w.half) : "memory");
}

// Copies that run by themselves. A thread reads back only what it has itself asked for, once it has waited for all but
// the last PENDING groups that it committed: no barrier is needed.
extern __shared__ __align__(256) unsigned char ring_memory[];

template <int BYTES>
INLINE void copy_async(int ring_offset, const void *from) {
  const uint32 to = shared_address(ring_memory) + ring_offset;
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
}

INLINE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
INLINE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

template <int BYTES>
INLINE Words<BYTES> take_copied(int ring_offset) {
  return *reinterpret_cast<const Words<BYTES> *>(__builtin_assume_aligned(ring_memory + ring_offset, BYTES));
}

template <int BYTES>
INLINE void put(int ring_offset, const Words<BYTES> &w) {
  *reinterpret_cast<Words<BYTES> *>(__builtin_assume_aligned(ring_memory + ring_offset, BYTES)) = w;
}

// Matrices of 8 rows of 8 numbers of 16 bits, four at a time; all lanes of a warp call these together. Lane 8 m + r gives
// the place of row r of matrix m in the ring. Lane l holds numbers 2 (l % 4) and the next one of row l / 4 of each
// matrix, or TRANSPOSED those two of column l / 4.
template <bool TRANSPOSED>
INLINE Words<16> load_matrices(int ring_offset) {
  const uint32 from = shared_address(ring_memory) + ring_offset;
  Words<16> w;
  if constexpr (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "r"(from));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.word[0]), "=r"(w.word[1]), "=r"(w.word[2]), "=r"(w.word[3])
                 : "r"(from));
  return w;
}

// From a lane's part of a matrix to its part of the transposed one.
INLINE uint32 transposed_matrix(uint32 part) {
  uint32 other;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(other) : "r"(part));
  return other;
}

// What `load_matrices` would load from there again.
template <bool TRANSPOSED>
INLINE void store_matrices(int ring_offset, const Words<16> &w) {
  const uint32 to = shared_address(ring_memory) + ring_offset;
#if __CUDA_ARCH__ >= 900
  if constexpr (TRANSPOSED)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w.word[0]),
                 "r"(w.word[1]), "r"(w.word[2]), "r"(w.word[3])
                 : "memory");
  else
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w.word[0]),
                 "r"(w.word[1]), "r"(w.word[2]), "r"(w.word[3])
                 : "memory");
#else
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < 4; m++) {
    const uint32 row = __shfl_sync(0xffffffffu, to, 8 * m + lane / 4);
    const uint32 part = TRANSPOSED ? transposed_matrix(w.word[m]) : w.word[m];
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(row + 4 * (lane % 4)), "r"(part) : "memory");
  }
#endif
}

// c += a b on the tensor cores, for a [16, 16] and b [16, 8] of numbers T and c [16, 8] of float32. With row = l / 4 and
// two = 2 (l % 4), lane l holds of a numbers two, two + 1 of rows `row` and row + 8, then numbers two + 8, two + 9 of
// them; of b in column `row` numbers two, two + 1, then two + 8, two + 9; of c those of a's columns up to 8.
template <class T>
INLINE void multiply_add(float (&c)[4], const Words<16> &a, uint32 b0, uint32 b1) {
  if constexpr (IS_BFLOAT16<T>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
}

INLINE float as_float(uint32 bits) { return __uint_as_float(bits); }
INLINE uint32 as_bits(float value) { return __float_as_uint(value); }

INLINE float widened(float x) { return x; }
INLINE float widened(Bfloat16 x) { return as_float(static_cast<uint32>(x.bits) << 16); }
INLINE float widened(Float16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

// To nearest, ties to even.
INLINE void narrow(float x, float &to) { to = x; }
INLINE void narrow(float x, Bfloat16 &to) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
INLINE void narrow(float x, Float16 &to) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }

// Two numbers T in a word, each to nearest, ties to even; the first in the lower half.
template <class T>
INLINE uint32 pair_of(float first, float second) {
  uint32 w;
  if constexpr (IS_BFLOAT16<T>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(second), "f"(first));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(second), "f"(first));
  return w;
}

// The same, made here: not kept in a register from where the compiler sees that it could have been made before.
template <class T>
INLINE uint32 pair_here(float first, float second) {
  uint32 w;
  if constexpr (IS_BFLOAT16<T>)
    asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(second), "f"(first));
  else
    asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(second), "f"(first));
  return w;
}

INLINE float fused(float x, float y, float z) { return __fmaf_rn(x, y, z); }
INLINE float exponential(float x) { return expf(x); }
INLINE float logarithm_of_1_and(float x) { return log1pf(x); }
INLINE float inverse_root(float x) { return rsqrtf(x); }
// The same of a number that is not denormal, in one instruction.
INLINE float quick_inverse_root(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
INLINE float reciprocal(float x) {
  float y;
  asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
INLINE float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
