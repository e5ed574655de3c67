// Numbers as they lie in memory: several in a word, and from one type to another.

template <class A, class B>
constexpr bool SAME = false;
template <class A>
constexpr bool SAME<A, A> = true;

// A copy between types: bit for bit where they are the same, NaN included, else rounded to nearest even.
template <class To, class From>
INLINE To converted(From x) {
  if constexpr (SAME<To, From>) {
    return x;
  } else {
    To y;
    narrow(widened(x), y);
    return y;
  }
}

// Number i of a vector.
template <class T, int BYTES>
INLINE T number(const Words<BYTES> &w, int i) {
  if constexpr (sizeof(T) == 4) {
    return as_float(w.word[i]);
  } else if constexpr (BYTES == 2) {
    return {w.half};
  } else {
    return {static_cast<uint16>(w.word[i / 2] >> (16 * (i % 2)))};
  }
}

// A vector of N numbers, each rounded to T.
template <class T, int N>
INLINE Words<N * sizeof(T)> vector_of(const float (&x)[N]) {
  Words<N * sizeof(T)> w;
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; i++) w.word[i] = as_bits(x[i]);
  } else if constexpr (N == 1) {
    w.half = converted<T>(x[0]).bits;
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 2)
      w.word[i / 2] = converted<T>(x[i]).bits | static_cast<uint32>(converted<T>(x[i + 1]).bits) << 16;
  }
  return w;
}

template <int BYTES>
INLINE Words<BYTES> zeros() {
  Words<BYTES> w;
  if constexpr (BYTES == 2) {
    w.half = 0;
  } else {
#pragma unroll
    for (int i = 0; i < BYTES / 4; i++) w.word[i] = 0;
  }
  return w;
}

// The sum over a group of `COUNT` lanes whose numbers differ in the bits from STEP on. Every lane adds the same pairs,
// so that all of them hold the same bits; and no product is contracted into it, as nothing is (see `machine.cuh`).
template <int COUNT, int STEP = 1>
INLINE float sum_over_lanes(float x) {
#pragma unroll
  for (int bits = STEP; bits < COUNT * STEP; bits *= 2) x += of_lane_xor(x, bits);
  return x;
}
