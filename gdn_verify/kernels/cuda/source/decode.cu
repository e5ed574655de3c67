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
  TConv *slot;
  TX x;
  TConv history[W - 1];
  Taps taps;
  TBias bias;
};

INLINE void store_shifted(const Arguments &a, const Channel &c) {
#pragma unroll
  for (int w = 0; w < W - 2; w++) c.slot[w * a.stride_c] = c.history[w + 1];
  c.slot[(W - 2) * a.stride_c] = converted<TConv>(c.x);
}

// What the tables say of a unit, as it was loaded; `end` is the first token that is of no row.
struct Asked {
  Entry slot, first, stop, end;
};

INLINE Asked ask_tables(const Arguments &a, int64 unit) {
  const bool here = unit < a.num_rows, offsets = a.query_start_loc;
  return {ask_entry(here, a.state_indices, unit * a.stride_index, a.wide_indices),
          ask_entry(here && offsets, a.query_start_loc, unit, a.wide_starts),
          ask_entry(here && offsets, a.query_start_loc, unit + 1, a.wide_starts),
          ask_entry(offsets, a.query_start_loc, a.num_rows, a.wide_starts)};
}

struct Row {
  int64 slot, token, first, stop;  // tokens [first, stop) are those of a row that is padding
  bool live, beyond;               // `beyond`: token `unit` is of no row
};

INLINE Row row_of(const Arguments &a, int64 unit, const Asked &asked) {
  Row row;
  const bool offsets = a.query_start_loc;
  const int64 first = offsets ? value_of(asked.first, a.wide_starts) : unit;
  const int64 stop = offsets ? value_of(asked.stop, a.wide_starts) : unit + 1;
  row.slot = unit < a.num_rows ? value_of(asked.slot, a.wide_indices) : -1;
  const bool legal = is_slot(a, row.slot);
  row.live = legal && stop - first == 1 && first >= 0 && first < a.num_tokens;
  row.first = first < 0 ? 0 : first;
  row.token = row.first < a.num_tokens ? row.first : a.num_tokens - 1;  // a token, whatever the tables say
  row.stop = legal ? row.first : stop < a.num_tokens ? stop : a.num_tokens;
  row.beyond = offsets && unit < a.num_tokens && unit >= value_of(asked.end, a.wide_starts);
  return row;
}

// z of token `unit`, and zeros for what belongs to no live row.
INLINE void pass_through(const Arguments &a, const Block &b, const Row &row) {
#pragma unroll
  for (int i = own_thread(); i < OUTPUTS_EACH * THREADS; i += THREADS) {
    const Output at = output_of(b, i);
    if (!at.there) continue;
    if (a.z_out && b.unit < a.num_tokens)
      static_cast<TX *>(a.z_out)[b.unit * a.stride_z + (b.head + at.head) * V + at.v] = *z_of(a, b, b.unit, at);
    if (a.zero_pads && row.beyond) *out_of(a, b, b.unit, at) = TOut{};
    if (a.zero_pads && !row.live)
      for (int64 t = row.first; t < row.stop; t++) *out_of(a, b, t, at) = TOut{};
  }
}

// The sum of o² of each of a block's heads, for all threads of all blocks that have the head.
INLINE void exchange_squares(Shared &s, const Block &b, float (&squares)[HEADS]) {
  const int thread = own_thread(), warp = thread / 32, lane = thread % 32;
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
  return ((turn % (STAGES ? STAGES : 1) * CHUNKS + chunk) * THREADS + own_thread()) * BYTES;
}

INLINE void ask(Ahead &ahead, const TState *own, const Place &place, int turn) {
  const TState *of_head = own + turn / PASSES * (V * K);
  const int pass = turn % PASSES;
  if constexpr (STAGES == 0) {
    if (turn < TURNS) ahead.tile[turn % DEPTH] = load_tile(of_head, place, pass);
  } else {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
      if (turn < TURNS && place.inside(pass) && place.holds(c))
        copy_async<BYTES>(ring_offset(turn, c), of_head + Place::beyond(pass, c));
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

// Asks for what needs neither slot nor token of each of the thread's channels.
INLINE void ask_weights(const Arguments &a, const Where (&at)[CHANNELS_EACH], Channel (&channels)[CHANNELS_EACH]) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    load_taps(channels[n].taps, a, at[n].channel);
    load_bias(channels[n].bias, a, at[n].channel);
  }
}

// ... and for the rest.
INLINE void ask_inputs(const Arguments &a, const Where (&at)[CHANNELS_EACH], int64 token, TConv *conv_slot,
                       Channel (&channels)[CHANNELS_EACH]) {
  const TX *x = static_cast<const TX *>(a.x) + token * a.stride_x;
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    channels[n].x = x[at[n].column];
    channels[n].slot = conv_slot + at[n].channel * a.stride_d;
    if (at[n].there) load_history(channels[n].history, a, channels[n].slot, 0);
  }
}

// The conv of each of the thread's channels, for all threads of the block.
INLINE void convolve(const Arguments &a, Shared &s, const Where (&at)[CHANNELS_EACH],
                     const Channel (&channels)[CHANNELS_EACH]) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    if (!at[n].there) continue;
    float window[W];
#pragma unroll
    for (int w = 0; w < W - 1; w++) window[w] = widened(channels[n].history[w]);
    window[W - 1] = widened(channels[n].x);
    const float y = convolved(window, channels[n].taps, channels[n].bias, a.conv_bias, a.conv_silu);
    s.conv[i] = y;
    // What no other block reads, no other thread does.
    if (i >= 2 * K || !SHARED_HEAD) store_shifted(a, channels[n]);
  }
}

// The delta rule, turn by turn; adds up each head's o² of this thread.
INLINE void walk(Shared &s, const Keys &keys, const Place &place, TState *own, Ahead &ahead, float (&squares)[HEADS]) {
  Gates gates[HEADS];  // before any store to shared memory, after which they would have to be read again
#pragma unroll
  for (int h = 0; h < HEADS; h++) gates[h] = {s.decay[h], s.beta[h]};
#pragma unroll
  for (int turn = 0; turn < TURNS; turn++) {
    const int h = turn / PASSES, pass = turn % PASSES;
    float S[CHUNKS][VEC], v[ROWS], o[ROWS];
    widen(S, taken(ahead, place, turn));
    if constexpr (STAGES == 0) ask(ahead, own, place, turn + DEPTH);
    const int at = h * VB + place.row(pass);
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = place.inside(pass) ? s.conv[2 * K + at + r] : 0.0f;
    advance(S, keys, v, gates[h], o);
    if constexpr (STAGES > 0) ask(ahead, own, place, turn + STAGES);  // where this turn's were: they are used now
    store_tile(own + h * (V * K), S, place, pass);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (place.inside(pass) && place.lane == 0) s.o[at + r] = o[r];
      squares[h] = place.inside(pass) ? fused(o[r], o[r], squares[h]) : squares[h];
    }
  }
}

// Shifts the conv state of q and k: this block's part of it, or all.
INLINE void shift_keys(const Arguments &a, const Block &b, const Channel (&channels)[CHANNELS_EACH], bool part) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    if (i < 2 * K && (!part || i / SHARE == b.rank)) store_shifted(a, channels[n]);
  }
}

KERNEL(gdn_cuda_decode) {
  SHARED(Shared, s);
  launch_dependents();
  wait_for_preceding();
  const int thread = own_thread();
  const Block b = block_of();
  const Asked asked = ask_tables(a, b.unit);

  // What needs no slot is asked for while that is on its way, and nothing is looked at before the state is asked for.
  const Columns columns = columns_of(b.key_head, a.heads, a.interleaved);
  Where at[CHANNELS_EACH];
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) at[n] = where(a, b, columns, n * THREADS + thread);
  Channel channels[CHANNELS_EACH];
  ask_weights(a, at, channels);

  const Row row = row_of(a, b.unit, asked);
  if (!row.live) {
    pass_through(a, b, row);
    return;
  }

  const Place place = {thread / LANES, thread % LANES, b.split};
  TState *own = static_cast<TState *>(a.pool) + row.slot * a.stride_pool + b.head * (V * K) + place.first();
  Ahead ahead;
#pragma unroll
  for (int turn = 0; turn < (STAGES ? STAGES : DEPTH); turn++) ask(ahead, own, place, turn);
  TConv *conv_slot = static_cast<TConv *>(a.conv_pool) + row.slot * a.stride_conv;
  ask_inputs(a, at, row.token, conv_slot, channels);
  const int last = THREADS - 1 - thread;  // the last threads have the fewest channels; they have a head's gates too
  const GateInputs gate_inputs = load_gates(a, row.token, b.key_head, b.head + (last < HEADS ? last : 0));
  TX z[OUTPUTS_EACH];
  TNorm weight[OUTPUTS_EACH];
  ask_norm(a, b, row.token, 1, z, weight);

  // The conv, a channel a thread; the gates, a head a thread.
  convolve(a, s, at, channels);
  if (last < HEADS) {
    const Gates gates = gates_of(a, gate_inputs);
    s.decay[last] = gates.decay;
    s.beta[last] = gates.beta;
  }
  if (JOIN && BY_CLUSTER && thread == 0) open_mailbox(s.mailbox, HEADS * SUMS);
  block_barrier();
  if constexpr (BY_CLUSTER) cluster_arrive();  // this block has read all its history

  const Keys keys = keys_of(s.conv, 0, place, a.scale, a.qk_norm_eps);
  float squares[HEADS] = {};
  walk(s, keys, place, own, ahead, squares);

  if constexpr (BY_CLUSTER) {
    cluster_wait();  // all blocks of the key head have read
    shift_keys(a, b, channels, true);
  }
  exchange_squares(s, b, squares);
  if constexpr (!(JOIN && BY_TICKET)) write_outputs(a, s, b, row.token, 1, z, weight);
  pass_through(a, b, row);
  if constexpr (BY_TICKET) {
    if constexpr (JOIN) hand_over(a, s, b, row.token, 1);
    if (!is_last(a, s, b, row.slot)) return;
    if constexpr (JOIN) take_over(a, b, row.token, 1);
    shift_keys(a, b, channels, false);
  }
}
