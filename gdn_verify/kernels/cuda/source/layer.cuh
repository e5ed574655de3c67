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

// The taps of a channel as they were loaded: what is taken apart before the state is asked for would wait for them.
template <class T, bool IN_WORD>
struct TapsOf {  // one word, where W loads would each touch every line again
  Words<W * sizeof(T)> word;
  INLINE_MEMBER void load(const T *at) { word = load_words<W * sizeof(T)>(at); }
  INLINE_MEMBER float operator[](int i) const { return widened(number<T>(word, i)); }
};
template <class T>
struct TapsOf<T, false> {
  T tap[W];
  INLINE_MEMBER void load(const T *at) {
#pragma unroll
    for (int i = 0; i < W; i++) tap[i] = at[i];
  }
  INLINE_MEMBER float operator[](int i) const { return widened(tap[i]); }
};
using Taps = TapsOf<TWeight, TAPS_IN_WORD>;

INLINE void load_taps(Taps &taps, const Arguments &a, int channel) {
  taps.load(static_cast<const TWeight *>(a.conv_weight) + channel * W);
}

// Where there is no bias, the first bytes of the weights: a load without a branch, behind which others would wait.
INLINE void load_bias(TBias &bias, const Arguments &a, int channel) {
  static_assert(W * sizeof(TWeight) >= sizeof(TBias));
  bias = *(a.conv_bias ? static_cast<const TBias *>(a.conv_bias) + channel : static_cast<const TBias *>(a.conv_weight));
}

// From column `first` of what a slot has of a channel.
INLINE void load_history(TConv (&history)[W - 1], const Arguments &a, const TConv *of_channel, int first) {
#pragma unroll
  for (int w = 0; w < W - 1; w++) history[w] = of_channel[(first + w) * a.stride_c];
}

// act(bias + Σ taps · inputs), oldest first.
INLINE float convolved(const float (&window)[W], const Taps &taps, TBias bias, bool biased, bool silu) {
  float y = biased ? widened(bias) : 0.0f;
#pragma unroll
  for (int w = 0; w < W; w++) y = fused(window[w], taps[w], y);
  return silu ? y * sigmoid(y) : y;
}

struct Gates {
  float decay, beta;
};

// What a head's gates are made of, as it was loaded.
struct GateInputs {
  TBa a, b;
  TRate rate;
  TShift shift;
};

INLINE GateInputs load_gates(const Arguments &a, int64 token, int key_head, int head) {
  const TBa *row = static_cast<const TBa *>(a.ba) + token * a.stride_ba;
  const int b_at = a.interleaved ? key_head * 2 * RATIO + head - key_head * RATIO : head;
  const int a_at = b_at + (a.interleaved ? RATIO : a.heads * RATIO);
  return {row[a_at], row[b_at], static_cast<const TRate *>(a.A_log)[head], static_cast<const TShift *>(a.dt_bias)[head]};
}

// e^g and β of equation 2.
INLINE Gates gates_of(const Arguments &a, const GateInputs &in) {
  const float x = widened(in.a) + widened(in.shift);
  const float softplus = x > a.threshold ? x : logarithm_of_1_and(exponential(x));
  return {exponential(-exponential(widened(in.rate)) * softplus), a.beta_scale * sigmoid(widened(in.b))};
}

// A table's entry as it was loaded, by its two halves; tables are int32 or int64. To ask for it and to have its value are
// two things, so that much else can be asked for in between.
struct Entry {
  uint32 low, high;
};

INLINE Entry ask_entry(bool there, const void *table, int64 at, bool wide) {
  const uint32 *p = static_cast<const uint32 *>(table) + (wide ? 2 * at : at);
  return {load_if(there, p), load_if(there && wide, p + 1)};
}

INLINE int64 value_of(Entry e, bool wide) {
  const uint32 high = wide ? e.high : static_cast<uint32>(static_cast<int>(e.low) >> 31);
  return static_cast<int64>(static_cast<unsigned long long>(high) << 32 | e.low);
}

INLINE int64 entry(const void *table, int64 at, bool wide) { return value_of(ask_entry(true, table, at, wide), wide); }

INLINE bool is_slot(const Arguments &a, int64 id) { return id >= 0 && id < a.num_slots && id != a.pad; }
