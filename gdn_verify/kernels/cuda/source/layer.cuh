// The layer's equations (contract, 1 to 5) for a channel, a head or an element, all in float32; and the packed layouts.

INLINE float sigmoid(float x) { return reciprocal(1.0f + exponential(-x)); }

INLINE float activated(float x, bool silu) { return silu ? x * sigmoid(x) : sigmoid(x); }

// Where a key head's part of a packed row begins, and the columns of one head in it: flat [q | k | v | z] over all
// heads, or for each key head [q(K) | k(K) | v(r·V) | z(r·V)].
struct Columns {
  int q, k, v, z;
};

INLINE Columns columns_of(int key_head, int heads, bool interleaved) {
  if (interleaved) {
    const int at = key_head * (2 * K + 2 * RATIO * V);
    return {at, at + K, at + 2 * K, at + 2 * K + RATIO * V};
  }
  const int v = 2 * heads * K + key_head * RATIO * V;
  return {key_head * K, heads * K + key_head * K, v, v + heads * RATIO * V};
}

// One channel of the convolution: its new input, and what its slot and its weights hold.
struct Channel {
  TX x;
  TConv history[W - 1];
  TWeight taps[W];
  float bias;
};

template <class T>
INLINE void load_taps(T (&taps)[W], const T *at) {
  if constexpr (TAPS_IN_WORD) {  // one load, where W would each touch every line again
    const Words<W * sizeof(T)> w = load_words<W * sizeof(T)>(at);
#pragma unroll
    for (int i = 0; i < W; i++) taps[i] = number<T>(w, i);
  } else {
#pragma unroll
    for (int i = 0; i < W; i++) taps[i] = at[i];
  }
}

INLINE void load_history(TConv (&history)[W - 1], const Arguments &a, const TConv *slot, int channel, int first) {
#pragma unroll
  for (int w = 0; w < W - 1; w++) history[w] = slot[channel * a.stride_d + (first + w) * a.stride_c];
}

// act(bias + Σ taps · inputs), oldest first.
INLINE float convolved(const float (&window)[W], const TWeight (&taps)[W], float bias, bool silu) {
  float y = bias;
#pragma unroll
  for (int w = 0; w < W; w++) y = fused(window[w], widened(taps[w]), y);
  return silu ? y * sigmoid(y) : y;
}

struct Gates {
  float decay, beta;
};

// e^g and β of equation 2.
INLINE Gates gates_of(const Arguments &a, int64 token, int key_head, int head) {
  const int r = head - key_head * RATIO;
  const TBa *row = static_cast<const TBa *>(a.ba) + token * a.stride_ba;
  const int b_at = a.interleaved ? key_head * 2 * RATIO + r : head;
  const int a_at = b_at + (a.interleaved ? RATIO : a.heads * RATIO);
  const float rate = exponential(widened(static_cast<const TRate *>(a.A_log)[head]));
  const float x = widened(row[a_at]) + widened(static_cast<const TShift *>(a.dt_bias)[head]);
  const float softplus = x > a.threshold ? x : logarithm_of_1_and(exponential(x));
  return {exponential(-rate * softplus), a.beta_scale * sigmoid(widened(row[b_at]))};
}

// A table's entry; tables are int32 or int64.
INLINE int64 entry(const void *table, int64 at, bool wide) {
  return wide ? static_cast<const int64 *>(table)[at] : static_cast<const int *>(table)[at];
}

INLINE bool is_slot(const Arguments &a, int64 id) { return id >= 0 && id < a.num_slots && id != a.pad; }
