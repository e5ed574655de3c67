// The machine, on a plain processor: the names of `source/machine.cuh`, answered by the engine (`engine.cpp`).
//
// A thread of a block is a fiber; what waits for other threads calls the engine, which runs those. What a card leaves
// undefined, and can be seen here, ends the launch with a finding.

#include "engine.h"

#define INLINE static inline
#define INLINE_MEMBER inline
#define KERNEL(name) extern "C" void name(const Arguments &a)
#define SHARED(Type, name) Type &name = *static_cast<Type *>(machine->shared_memory(sizeof(Type)))

using int64 = long long;
using uint32 = unsigned int;
using uint16 = unsigned short;

static Machine *machine;
extern "C" void gdn_set_machine(Machine *m) { machine = m; }

struct Bfloat16 {
  uint16 bits;
};
struct Float16 {
  uint16 bits;
};

template <class T, int N>
struct alignas(16) Array {
  T item[N];
  T &operator[](int i) {
    if (i < 0 || i >= N) machine->outside(i, N);
    return item[i];
  }
};

INLINE int thread_index() { return machine->thread; }
template <int COUNT>
INLINE int below(int x) {
  if (x < 0 || x >= COUNT) machine->outside(x, COUNT);
  return x;
}
INLINE int block_x() { return machine->block_x; }
INLINE int block_y() { return machine->block_y; }
INLINE void block_barrier() { machine->block_barrier(); }
INLINE float of_lane_xor(float value, int bits) { return machine->of_lane_xor(value, bits); }

// Of lanes that do something together: what each gives, and takes.
struct Exchanged {
  double value;
  int lane;
};
static void exchange_lanes(void *const *lanes) {
  double given[32];
  for (int i = 0; i < 32; i++) given[i] = static_cast<Exchanged *>(lanes[i])->value;
  for (int i = 0; i < 32; i++) {
    Exchanged &mine = *static_cast<Exchanged *>(lanes[i]);
    mine.value = given[mine.lane & 31];
  }
}
INLINE double of_lane(double value, int lane) {
  Exchanged mine = {value, lane};
  machine->together(&mine, exchange_lanes);
  return mine.value;
}
INLINE float of_lane(float value, int lane) { return of_lane(static_cast<double>(value), lane); }
static void nothing_else(void *const *) {}
INLINE void warp_barrier() { machine->together(nullptr, nothing_else); }
INLINE void meet(int barrier, int threads) { machine->named_barrier(barrier, threads, true); }
INLINE void arrive(int barrier, int threads) { machine->named_barrier(barrier, threads, false); }

template <int COUNT>
INLINE void leave_registers() {}
template <int COUNT>
INLINE void take_registers() {}
INLINE void launch_dependents() {}
INLINE void wait_for_preceding() {}
INLINE void cluster_arrive() { machine->cluster_arrive(); }
INLINE void cluster_wait() { machine->cluster_wait(); }
struct Mailbox {
  alignas(8) unsigned long long barrier;
};
INLINE void open_mailbox(Mailbox &, int numbers) { machine->open_mailbox(numbers); }
INLINE void send(float &own, int rank, float value, Mailbox &) { machine->send(&own, rank, value); }
INLINE void wait_for_mail(Mailbox &) { machine->wait_for_mail(); }

INLINE int64 take_ticket(int64 *counter, int64 amount) {
  const int64 held = *counter;
  *counter += amount;
  return held;
}
INLINE float load_fresh(const float *p) { return *p; }

template <int BYTES>
struct Words {
  uint32 word[BYTES / 4];
};
template <>
struct Words<2> {
  uint16 half;
};

INLINE uint32 load_if(bool there, const uint32 *p) { return there ? *p : 0; }

template <int BYTES>
INLINE Words<BYTES> load_words(const void *p) {
  Words<BYTES> w;
  if (reinterpret_cast<unsigned long>(p) % BYTES) machine->misaligned(BYTES);
  __builtin_memcpy(&w, p, BYTES);
  return w;
}
template <int BYTES>
INLINE void store_words(void *p, const Words<BYTES> &w) {
  if (reinterpret_cast<unsigned long>(p) % BYTES) machine->misaligned(BYTES);
  __builtin_memcpy(p, &w, BYTES);
}

template <int BYTES>
INLINE void copy_async(int ring_offset, const void *from) {
  if (reinterpret_cast<unsigned long>(from) % BYTES) machine->misaligned(BYTES);
  machine->copy_async(ring_offset, from, BYTES);
}
INLINE void commit_copies() { machine->commit_copies(); }
template <int PENDING>
INLINE void wait_for_copies() {
  machine->wait_for_copies(PENDING);
}
template <int BYTES>
INLINE Words<BYTES> take_copied(int ring_offset) {
  Words<BYTES> w;
  __builtin_memcpy(&w, machine->ring(ring_offset, BYTES), BYTES);
  return w;
}

template <int BYTES>
INLINE void put(int ring_offset, const Words<BYTES> &w) {
  if (ring_offset % BYTES) machine->misaligned(BYTES);
  __builtin_memcpy(machine->ring(ring_offset, BYTES), &w, BYTES);
}

// Lane 8 m + r has row r of matrix m; number c of it goes to, or comes from, the lane that holds it.
struct Matrices {
  uint16 *row;
  uint16 part[8];
};
template <bool TRANSPOSED, bool STORE>
static void move_matrices(void *const *lanes) {
  for (int m = 0; m < 4; m++)
    for (int r = 0; r < 8; r++)
      for (int c = 0; c < 8; c++) {
        const int holder = TRANSPOSED ? 4 * c + r / 2 : 4 * r + c / 2;
        uint16 &part = static_cast<Matrices *>(lanes[holder])->part[2 * m + (TRANSPOSED ? r : c) % 2];
        uint16 &number = static_cast<Matrices *>(lanes[8 * m + r])->row[c];
        if (STORE)
          number = part;
        else
          part = number;
      }
}
static inline uint16 *matrix_row(int ring_offset) {
  if (ring_offset % 16) machine->misaligned(16);
  return static_cast<uint16 *>(machine->ring(ring_offset, 16));
}
template <bool TRANSPOSED>
INLINE Words<16> load_matrices(int ring_offset) {
  Matrices mine = {matrix_row(ring_offset), {}};
  machine->together(&mine, move_matrices<TRANSPOSED, false>);
  Words<16> w;
  __builtin_memcpy(&w, mine.part, 16);
  return w;
}
template <bool TRANSPOSED>
INLINE void store_matrices(int ring_offset, const Words<16> &w) {
  Matrices mine = {matrix_row(ring_offset), {}};
  __builtin_memcpy(mine.part, &w, 16);
  machine->together(&mine, move_matrices<TRANSPOSED, true>);
}
static void transpose_matrix(void *const *lanes) {
  uint16 number[8][8];
  for (int i = 0; i < 64; i++) number[i / 8][i % 8] = static_cast<uint16 *>(lanes[i / 2])[i % 2];
  for (int i = 0; i < 64; i++) static_cast<uint16 *>(lanes[i / 2])[i % 2] = number[i % 8][i / 8];
}
INLINE uint32 transposed_matrix(uint32 part) {
  machine->together(&part, transpose_matrix);
  return part;
}

INLINE float as_float(uint32 bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
INLINE uint32 as_bits(float x) {
  uint32 bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

INLINE float widened(float x) { return x; }
INLINE float widened(Bfloat16 x) { return as_float(static_cast<uint32>(x.bits) << 16); }
INLINE float widened(Float16 x) {
  const uint32 sign = static_cast<uint32>(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  const float size = rest < 0x400 ? rest * 0x1p-24f : as_float((rest << 13) + (112u << 23));
  return sign ? -size : size;
}

INLINE void narrow(float x, float &to) { to = x; }
INLINE void narrow(float x, Bfloat16 &to) {
  const uint32 bits = as_bits(x);
  to.bits = x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;
}
INLINE void narrow(float x, Float16 &to) {
  const uint32 bits = as_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  uint32 rest;
  if (x != x)
    rest = 0x7fff;
  else if (size >= 0x47800000)  // 65536 and beyond; 65520 to there carries into infinity below
    rest = 0x7c00;
  else if (size >= 0x38800000)
    rest = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
  else  // adding 1/2 leaves the denormal's bits, rounded, at the end of the significand
    rest = as_bits(as_float(size) + 0.5f) - as_bits(0.5f);
  to.bits = sign | rest;
}

template <class T>
INLINE uint32 pair_of(float first, float second) {
  T low, high;
  narrow(first, low);
  narrow(second, high);
  return low.bits | static_cast<uint32>(high.bits) << 16;
}

template <class T>
INLINE uint32 pair_here(float first, float second) {
  return pair_of<T>(first, second);
}

// Sums in float64, rounded once: tensor cores cut theirs, in an order of their own.
struct Product {
  float *c;
  uint32 a[4], b[2];
};
template <class T>
static void multiply_lanes(void *const *lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const Product &p = *static_cast<Product *>(lanes[lane]);
    const int row = lane / 4, two = 2 * (lane % 4);
    for (int i = 0; i < 8; i++) {
      const uint32 in_a = p.a[i / 2] >> 16 * (i % 2), in_b = p.b[i / 2 % 2] >> 16 * (i % 2);
      a[row + 8 * (i / 2 % 2)][two + 8 * (i / 4) + i % 2] = widened(T{static_cast<uint16>(in_a)});
      if (i < 4) b[two + 8 * (i / 2) + i % 2][row] = widened(T{static_cast<uint16>(in_b)});
    }
  }
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 8; j++) {
      double sum = 0;
      for (int k = 0; k < 16; k++) sum += static_cast<double>(a[i][k]) * b[k][j];
      float &c = static_cast<Product *>(lanes[4 * (i % 8) + j / 2])->c[2 * (i / 8) + j % 2];
      c = static_cast<float>(c + sum);
    }
}
template <class T>
INLINE void multiply_add(float (&c)[4], const Words<16> &a, uint32 b0, uint32 b1) {
  Product mine = {c, {a.word[0], a.word[1], a.word[2], a.word[3]}, {b0, b1}};
  machine->together(&mine, multiply_lanes<T>);
}

INLINE float fused(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
INLINE float exponential(float x) { return __builtin_expf(x); }
INLINE float logarithm_of_1_and(float x) { return __builtin_log1pf(x); }
INLINE float inverse_root(float x) { return 1.0f / __builtin_sqrtf(x); }
INLINE float quick_inverse_root(float x) { return 1.0f / __builtin_sqrtf(x); }
INLINE float reciprocal(float x) { return 1.0f / x; }
INLINE float power_of_2(float x) { return __builtin_exp2f(x); }
