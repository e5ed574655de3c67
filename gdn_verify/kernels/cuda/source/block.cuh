// What a block of a decode or a draft is, and what it shares: which channels and outputs are its own, its memory, and how
// it agrees with the other blocks of its key head (`decode.cu` says on what).

constexpr int SHARERS = RATIO / HEADS * SPLITS;
constexpr bool SHARED_HEAD = SHARERS > 1;
constexpr bool JOIN = NORM && SPLITS > 1;
constexpr bool BY_CLUSTER = CLUSTER && SHARED_HEAD;
constexpr bool BY_TICKET = !CLUSTER && SHARED_HEAD;
constexpr int SUMS = JOIN && BY_CLUSTER ? SPLITS * WARPS : WARPS;
constexpr int QUANTUM = 192;  // a multiple of every SHARERS: of ratios that divide 24 times up to 8 splits
constexpr int SHARE = divided_up(2 * K, SHARERS);  // channels of q and k that a block of a cluster shifts

constexpr int CHANNELS = 2 * K + HEADS * VB;
constexpr int CHANNELS_EACH = divided_up(CHANNELS, THREADS);
constexpr int OUTPUTS = HEADS * VB;
constexpr int OUTPUTS_EACH = divided_up(TOKENS * OUTPUTS, THREADS);

// Of TOKENS tokens, one after the other.
struct Shared {
  Array<float, TOKENS * CHANNELS> conv;  // q, k and v of the block's heads
  Array<float, TOKENS * OUTPUTS> o;
  Array<float, TOKENS * HEADS> decay, beta;
  Array<float, TOKENS * HEADS * SUMS> squares;
  Array<int64, TOKENS> writes;
  Array<int, 1> last;
  Mailbox mailbox;
};

// What the threads of a block know of where it is.
struct Block {
  int key_head, head, rank, split;
  int64 unit;
};

INLINE Block block_of() {
  Block b;
  b.rank = static_cast<uint32>(block_x()) % SHARERS;
  b.unit = static_cast<uint32>(block_x()) / SHARERS;
  b.key_head = block_y();
  b.head = b.key_head * RATIO + b.rank / SPLITS * HEADS;
  b.split = b.rank % SPLITS;
  return b;
}

// A block's output number i: which head and which row of V it is, and whether there is one.
struct Output {
  int head, v;  // of the block's heads; of all V
  bool there;
};

INLINE Output output_of(const Block &b, uint32 i) {
  const int row = i % VB, v = b.split * VB + row, head = i / VB;
  return {head, v, i < OUTPUTS && v < V};
}

INLINE const TX *z_of(const Arguments &a, const Block &b, int64 token, Output at) {
  const int column = columns_of(b.key_head, a.heads, a.interleaved).z;
  return static_cast<const TX *>(a.x) + token * a.stride_x + column + (b.head - b.key_head * RATIO + at.head) * V + at.v;
}

INLINE TOut *out_of(const Arguments &a, const Block &b, int64 token, Output at) {
  return static_cast<TOut *>(a.out) + token * a.stride_out + (b.head + at.head) * V + at.v;
}

// Channel number i of a block: q, then k, then v of its heads. Where there is none, another that is.
struct Where {
  int channel, column;  // among the conv's, and in a packed row
  bool there;
};

INLINE Where where(const Arguments &a, const Block &b, const Columns &columns, int number) {
  // Without branches, which the loads would wait behind.
  const int i = number < CHANNELS ? number : CHANNELS - 1;
  const bool of_v = i >= 2 * K, of_k = i >= K;
  const Output at = output_of(b, of_v ? i - 2 * K : 0);
  const int among = (b.head - b.key_head * RATIO + at.head) * V + (at.v < V ? at.v : V - 1);
  const int qk_channel = b.key_head * K + i + (of_k ? (a.heads - 1) * K : 0);
  const int qk_column = columns.q + i + (of_k ? columns.k - columns.q - K : 0);
  const int v_channel = (2 * a.heads * K + b.key_head * RATIO * V) + among;
  const bool there = number < CHANNELS && (!of_v || at.there);
  return {of_v ? v_channel : qk_channel, of_v ? columns.v + among : qk_column, there};
}

// The sum of o² of a head and token, `at` among those of the block, once all have told theirs.
INLINE float in_all(Shared &s, int at) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < SUMS; i++) sum += s.squares[at * SUMS + i];
  return sum;
}

// Equation 5.
INLINE float normalised(const Arguments &a, float o, float squares, TX z, TNorm weight) {
  return o * inverse_root(squares / V + a.norm_eps) * widened(weight) * activated(widened(z), a.norm_silu);
}

INLINE void store_out(TOut *at, float value) { *at = converted<TOut>(value); }

// Asks for z and the norm's weight of each of the thread's outputs, of `count` tokens from `token` on.
INLINE void ask_norm(const Arguments &a, const Block &b, int64 token, int count, TX (&z)[OUTPUTS_EACH],
                     TNorm (&weight)[OUTPUTS_EACH]) {
#pragma unroll
  for (int n = 0; n < OUTPUTS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    const Output at = output_of(b, i % OUTPUTS);
    if (NORM && at.there && i < count * OUTPUTS) {
      z[n] = *z_of(a, b, token + i / OUTPUTS, at);
      weight[n] = static_cast<const TNorm *>(a.norm_weight)[at.v];
    }
  }
}

// ... and writes them.
INLINE void write_outputs(const Arguments &a, Shared &s, const Block &b, int64 token, int count,
                          const TX (&z)[OUTPUTS_EACH], const TNorm (&weight)[OUTPUTS_EACH]) {
#pragma unroll
  for (int n = 0; n < OUTPUTS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    const Output at = output_of(b, i % OUTPUTS);
    if (!at.there || i >= count * OUTPUTS) continue;
    const float o = s.o[i];
    store_out(out_of(a, b, token + i / OUTPUTS, at),
              NORM ? normalised(a, o, in_all(s, i / OUTPUTS * HEADS + at.head), z[n], weight[n]) : o);
  }
}

// Takes a ticket for the block; whether it is the last of its key head's.
INLINE bool is_last(const Arguments &a, Shared &s, const Block &b, int64 slot) {
  block_barrier();
  if (own_thread() == 0) {
    const int64 held = take_ticket(static_cast<int64 *>(a.tickets) + slot * a.heads + b.key_head, QUANTUM / SHARERS);
    s.last[0] = (held + QUANTUM / SHARERS) % QUANTUM == 0;
  }
  block_barrier();
  return s.last[0];
}

// Without a cluster: o of this block to memory, and its sums of squares, of `count` tokens from `token` on.
INLINE void hand_over(const Arguments &a, Shared &s, const Block &b, int64 token, int count) {
  for (int i = own_thread(); i < count * OUTPUTS; i += THREADS) {
    const Output at = output_of(b, i % OUTPUTS);
    const int64 head = (token + i / OUTPUTS) * a.heads * RATIO + b.head + at.head;
    if (at.there) static_cast<float *>(a.partial)[head * V + at.v] = s.o[i];
  }
  for (int i = own_thread(); i < count * HEADS; i += THREADS) {
    const int64 head = (token + i / HEADS) * a.heads * RATIO + b.head + i % HEADS;
    static_cast<float *>(a.sums)[head * SPLITS + b.split] = in_all(s, i);
  }
}

// ... and what the last one does with it, for all value heads of the key head.
INLINE void take_over(const Arguments &a, const Block &b, int64 token, int count) {
  Block whole = b;
  whole.head = b.key_head * RATIO;
  for (int i = own_thread(); i < count * RATIO * V; i += THREADS) {
    const Output at = {i / V % RATIO, i % V, true};
    const int64 here = token + i / (RATIO * V), head = here * a.heads * RATIO + whole.head + at.head;
    float squares = 0.0f;
    for (int split = 0; split < SPLITS; split++)
      squares += load_fresh(static_cast<const float *>(a.sums) + head * SPLITS + split);
    const float o = load_fresh(static_cast<const float *>(a.partial) + head * V + at.v);
    const TNorm weight = static_cast<const TNorm *>(a.norm_weight)[at.v];
    store_out(out_of(a, whole, here, at), normalised(a, o, squares, *z_of(a, whole, here, at), weight));
  }
}

