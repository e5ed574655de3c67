// One launch for a decode step: conv, gates, q/k norm, delta rule and gated norm, from packed inputs to output.
//
// A row and a key head have SHARERS blocks: each has one of SPLITS slices of V of HEADS value heads (one, or all of the
// key head's). A block asks for its part of the state as soon as it knows the slot, all of it or DEPTH turns ahead in
// registers, or STAGES turns ahead in shared memory; the conv of q, k and its own v, the gates and the norms of q and k
// hide behind that. Its threads meet once before the walk over the state and once after it.
//
// What blocks of a key head must agree on, in a cluster (sm_90 on) by its barrier, else by a ticket:
//
// - All of them read the conv state of q and k, which is shifted in place, so no shift may begin before all have read.
//   In a cluster they arrive after their convs and wait behind the walk, so that nobody waits; then each shifts its part.
//   Else the last one shifts: who that is tells a counter of (slot, key head), to which a row adds QUANTUM in all
//   (`triton/decode_kernel.py` has the argument; the counters are the same). A thread's loads have returned before its
//   block's barrier, since the conv consumed them.
// - With V split, a head's sum of o² is of several blocks. In a cluster every warp sends its sum to the blocks of its
//   head, which they may do since all have begun (they have waited). A block waits for the bytes that it is sent, and for
//   nothing else: a barrier of the cluster that released them would wait for the state's stores too. Nobody touches a
//   block that has all its mail, so it may end. Else o goes through memory to the last block.

#include "layer.cuh"
#include "tile.cuh"
#include "block.cuh"

constexpr int TURNS = HEADS * PASSES;

// One channel of the convolution: its new input, and what its slot and its weights hold.
struct Channel {
  TX x;
  TConv history[W - 1];
  Taps taps;
  TBias bias;
};

INLINE void store_shifted(const Arguments &a, TConv *slot, const Channel &c, int channel) {
  TConv *at = slot + channel * a.stride_d;
#pragma unroll
  for (int w = 0; w < W - 2; w++) at[w * a.stride_c] = c.history[w + 1];
  at[(W - 2) * a.stride_c] = converted<TConv>(c.x);
}

struct Row {
  int64 slot, token, first, stop;  // tokens [first, stop) are those of a row that is padding
  bool live;
};

INLINE Row row_of(const Arguments &a, int64 unit) {
  Row row;
  const bool here = unit < a.num_rows;
  row.slot = here ? entry(a.state_indices, unit * a.stride_index, a.wide_indices) : -1;
  const bool legal = is_slot(a, row.slot);
  int64 first = unit, stop = unit + 1;
  if (a.query_start_loc) {
    first = here ? entry(a.query_start_loc, unit, a.wide_starts) : 0;
    stop = here ? entry(a.query_start_loc, unit + 1, a.wide_starts) : 0;
  }
  row.live = legal && stop - first == 1 && first >= 0 && first < a.num_tokens;
  row.first = first < 0 ? 0 : first;
  row.token = row.first < a.num_tokens ? row.first : a.num_tokens - 1;  // a token, whatever the tables say
  row.stop = legal ? row.first : stop < a.num_tokens ? stop : a.num_tokens;
  return row;
}

// z of token `unit`, and zeros for what belongs to no live row.
INLINE void pass_through(const Arguments &a, const Block &b, const Row &row) {
  const bool beyond = a.query_start_loc && b.unit < a.num_tokens &&
                      b.unit >= entry(a.query_start_loc, a.num_rows, a.wide_starts);
#pragma unroll
  for (int i = thread_index(); i < OUTPUTS_EACH * THREADS; i += THREADS) {
    const Output at = output_of(b, i);
    if (!at.there) continue;
    if (a.z_out && b.unit < a.num_tokens)
      static_cast<TX *>(a.z_out)[b.unit * a.stride_z + (b.head + at.head) * V + at.v] = *z_of(a, b, b.unit, at);
    if (a.zero_pads && beyond) *out_of(a, b, b.unit, at) = TOut{};
    if (a.zero_pads && !row.live)
      for (int64 t = row.first; t < row.stop; t++) *out_of(a, b, t, at) = TOut{};
  }
}

// The sum of o² of each of a block's heads, for all threads of all blocks that have the head.
INLINE void exchange_squares(Shared &s, const Block &b, float (&squares)[HEADS]) {
  const int thread = thread_index(), warp = thread / 32, lane = thread % 32;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    const float sum = sum_over_lanes<32 / LANES, LANES>(squares[h]);
    if constexpr (JOIN && BY_CLUSTER) {
      if (lane < SPLITS)
        send(s.squares[(h * SPLITS + b.split) * WARPS + warp], b.rank - b.split + lane, sum, s.mailbox);
    } else if (lane == 0) {
      s.squares[h * SUMS + warp] = sum;
    }
  }
  block_barrier();
  if constexpr (JOIN && BY_CLUSTER) wait_for_mail(s.mailbox);
}

// The state of turn `turn`, on its way: in registers, or in this thread's part of the ring.
struct Ahead {
  Tile tile[STAGES ? 1 : DEPTH];
};

INLINE int ring_offset(int turn, int chunk) {
  return ((turn % (STAGES ? STAGES : 1) * CHUNKS + chunk) * THREADS + thread_index()) * BYTES;
}

INLINE void ask(Ahead &ahead, const TState *state, const Place &place, int turn) {
  const TState *head = state + turn / PASSES * (V * K);
  const int pass = turn % PASSES;
  if constexpr (STAGES == 0) {
    if (turn < TURNS) ahead.tile[turn % DEPTH] = load_tile(head, place, pass);
  } else {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
      if (turn < TURNS && place.inside(pass) && place.holds(c))
        copy_async<BYTES>(ring_offset(turn, c), head + place.offset(pass, c));
    commit_copies();  // of nothing too: groups are counted
  }
}

INLINE Tile taken(Ahead &ahead, const Place &place, int turn) {
  if constexpr (STAGES == 0) return ahead.tile[turn % DEPTH];
  Tile tile;
  wait_for_copies<STAGES ? STAGES - 1 : 0>();
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
    tile.word[c] = place.inside(turn % PASSES) && place.holds(c) ? take_copied<BYTES>(ring_offset(turn, c)) : zeros<BYTES>();
  return tile;
}

// Asks for what needs no slot of each of the thread's channels.
INLINE void ask_channels(const Arguments &a, const Block &b, const Columns &columns, const TX *x,
                         Channel (&channels)[CHANNELS_EACH]) {
  const int thread = thread_index();
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + thread;
    const Where at = where(a, b, columns, i);
    channels[n] = {};
    if (i >= CHANNELS || !at.there) continue;
    channels[n].x = x[at.column];
    load_taps(channels[n].taps, a, at.channel);
    load_bias(channels[n].bias, a, at.channel);
  }
}

// The conv of each of the thread's channels, for all threads of the block.
INLINE void convolve(const Arguments &a, Shared &s, const Block &b, const Columns &columns,
                     const Channel (&channels)[CHANNELS_EACH], TConv *conv_slot) {
  const int thread = thread_index();
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + thread;
    const Where at = where(a, b, columns, i);
    if (i >= CHANNELS || !at.there) continue;
    float window[W];
#pragma unroll
    for (int w = 0; w < W - 1; w++) window[w] = widened(channels[n].history[w]);
    window[W - 1] = widened(channels[n].x);
    const float y = convolved(window, channels[n].taps, channels[n].bias, a.conv_silu);
    s.conv[i] = y;
    // What no other block reads, no other thread does.
    if (i >= 2 * K || !SHARED_HEAD) store_shifted(a, conv_slot, channels[n], at.channel);
  }
}

// The delta rule, turn by turn; adds up each head's o² of this thread.
INLINE void walk(Shared &s, const Keys &keys, const Place &place, TState *state, Ahead &ahead, float (&squares)[HEADS]) {
#pragma unroll
  for (int turn = 0; turn < TURNS; turn++) {
    const int h = turn / PASSES, pass = turn % PASSES;
    float S[CHUNKS][VEC], v[ROWS], o[ROWS];
    widen(S, taken(ahead, place, turn));
    if constexpr (STAGES == 0) ask(ahead, state, place, turn + DEPTH);
    const int at = h * VB + place.row(pass);
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = place.inside(pass) ? s.conv[2 * K + at + r] : 0.0f;
    advance(S, keys, v, {s.decay[h], s.beta[h]}, o);
    if constexpr (STAGES > 0) ask(ahead, state, place, turn + STAGES);  // where this turn's were: they are used now
    store_tile(state + h * (V * K), S, place, pass);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (place.inside(pass) && place.lane == 0) s.o[at + r] = o[r];
      squares[h] = place.inside(pass) ? fused(o[r], o[r], squares[h]) : squares[h];
    }
  }
}

// Shifts the conv state of q and k: this block's part of it, or all.
INLINE void shift_keys(const Arguments &a, const Block &b, const Columns &columns, const Channel (&channels)[CHANNELS_EACH],
                       TConv *conv_slot, bool part) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + thread_index();
    if (i < 2 * K && (!part || i / SHARE == b.rank))
      store_shifted(a, conv_slot, channels[n], where(a, b, columns, i).channel);
  }
}

KERNEL(gdn_cuda_decode) {
  SHARED(Shared, s);
  launch_dependents();
  wait_for_preceding();
  const int thread = thread_index();
  const Block b = block_of();
  const Row row = row_of(a, b.unit);
  const Columns columns = columns_of(b.key_head, a.heads, a.interleaved);

  // What needs no slot is asked for while that is on its way.
  const TX *x = static_cast<const TX *>(a.x) + row.token * a.stride_x;
  Channel channels[CHANNELS_EACH];
  ask_channels(a, b, columns, x, channels);
  const int head = THREADS - 1 - thread;  // whose gates are this thread's: the last have the fewest channels
  GateInputs gate_inputs;
  if (head < HEADS) gate_inputs = load_gates(a, row.token, b.key_head, b.head + head);
  if (!row.live) {
    pass_through(a, b, row);
    return;
  }

  const Place place = {thread / LANES, thread % LANES, b.split};
  TState *state = static_cast<TState *>(a.pool) + row.slot * a.stride_pool + b.head * (V * K);
  Ahead ahead;
#pragma unroll
  for (int turn = 0; turn < (STAGES ? STAGES : DEPTH); turn++) ask(ahead, state, place, turn);
  TConv *conv_slot = static_cast<TConv *>(a.conv_pool) + row.slot * a.stride_conv;
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const Where at = where(a, b, columns, n * THREADS + thread);
    if (n * THREADS + thread < CHANNELS && at.there) load_history(channels[n].history, a, conv_slot, at.channel, 0);
  }
  TX z[OUTPUTS_EACH];
  TNorm weight[OUTPUTS_EACH];
  ask_norm(a, b, row.token, 1, z, weight);

  // The conv, a channel a thread; the gates, a head a thread.
  convolve(a, s, b, columns, channels, conv_slot);
  if (head < HEADS) {
    const Gates gates = gates_of(a, gate_inputs);
    s.decay[head] = gates.decay;
    s.beta[head] = gates.beta;
  }
  if (JOIN && BY_CLUSTER && thread == 0) open_mailbox(s.mailbox, HEADS * SUMS);
  block_barrier();
  if constexpr (BY_CLUSTER) cluster_arrive();  // this block has read all its history

  const Keys keys = keys_of(s.conv, 0, place, a.scale, a.qk_norm_eps);
  float squares[HEADS] = {};
  walk(s, keys, place, state, ahead, squares);

  if constexpr (BY_CLUSTER) {
    cluster_wait();  // all blocks of the key head have read
    shift_keys(a, b, columns, channels, conv_slot, true);
  }
  exchange_squares(s, b, squares);
  if constexpr (!(JOIN && BY_TICKET)) write_outputs(a, s, b, row.token, 1, z, weight);
  pass_through(a, b, row);
  if constexpr (BY_TICKET) {
    if constexpr (JOIN) hand_over(a, s, b, row.token, 1);
    if (!is_last(a, s, b, row.slot)) return;
    if constexpr (JOIN) take_over(a, b, row.token, 1);
    shift_keys(a, b, columns, channels, conv_slot, false);
  }
}
