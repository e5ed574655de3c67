// Rows of up to TOKENS tokens, the state written after each: conv, gates, q/k norm, delta rule and gated norm, one launch.
//
// A row and a key head have SHARERS blocks, as in `decode.cu`, which also says what they must agree on and how. A block
// reads its part of the state once, from the slot that the accepted count names, and keeps it in registers over all
// tokens. The convs of all tokens run before the walk, so that its threads do not meet between tokens.

#include "layer.cuh"
#include "tile.cuh"
#include "block.cuh"

static_assert(HEADS == 1, "a block's registers hold the state of one head");
static_assert(TOKENS <= 32, "a lane keeps the sum of each token");

struct Row {
  int64 own, read, first, stop;
  int length, accepted;
  bool live;
};

// What the tables say of a row, as it was loaded: all slots, as which of them is read tells the count.
struct Asked {
  Entry first, stop, end, accepted, slot[TOKENS];
};

INLINE Asked ask_tables(const Arguments &a, int64 n) {
  Asked asked = {ask_entry(true, a.query_start_loc, n, a.wide_starts),
                 ask_entry(true, a.query_start_loc, n + 1, a.wide_starts),
                 ask_entry(true, a.query_start_loc, a.num_rows, a.wide_starts),
                 ask_entry(true, a.num_accepted_tokens, n, a.wide_counts)};
#pragma unroll
  for (int t = 0; t < TOKENS; t++)
    asked.slot[t] = ask_entry(true, a.state_indices, n * a.stride_row + t * a.stride_column, a.wide_indices);
  return asked;
}

INLINE Row row_of(const Arguments &a, const Asked &asked) {
  Row row;
  row.first = value_of(asked.first, a.wide_starts);
  row.stop = value_of(asked.stop, a.wide_starts);
  const int64 accepted = value_of(asked.accepted, a.wide_counts);
  const bool counted = accepted >= 1 && accepted <= TOKENS;
  row.own = value_of(asked.slot[0], a.wide_indices);
  row.read = -1;
#pragma unroll
  for (int t = 0; t < TOKENS; t++)
    if (accepted == t + 1) row.read = value_of(asked.slot[t], a.wide_indices);
  const int64 length = row.stop - row.first;
  row.live = counted && is_slot(a, row.own) && is_slot(a, row.read) && length > 0 && length <= TOKENS &&
             row.first >= 0 && row.stop <= a.num_tokens;
  row.accepted = counted ? accepted : 1;
  row.length = row.live ? length : 0;
  row.first = row.first < 0 ? 0 : row.first;
  row.stop = row.stop < a.num_tokens ? row.stop : a.num_tokens;
  return row;
}

// z of tokens [first, stop) in steps, and with `clear` zeros for their outputs.
INLINE void pass_through(const Arguments &a, const Block &b, int64 first, int64 stop, int64 step, bool clear) {
  for (int64 t = first; t < stop; t += step)
    for (int i = own_thread(); i < OUTPUTS; i += THREADS) {
      const Output at = output_of(b, i);
      if (!at.there) continue;
      if (a.z_out) static_cast<TX *>(a.z_out)[t * a.stride_z + (b.head + at.head) * V + at.v] = *z_of(a, b, t, at);
      if (clear) *out_of(a, b, t, at) = TOut{};
    }
}

// A channel's inputs: what its slot holds from the accepted token on, and the row's tokens.
struct Stream {
  TConv *slot;
  TConv history[W - 1];
  TX x[TOKENS];
  Taps taps;
  TBias bias;
};

// The rest of the history, followed by the row's tokens, from column 0: exact copies.
INLINE void store_stream(const Arguments &a, const Stream &c, int length) {
#pragma unroll
  for (int w = 0; w < W - 2; w++) c.slot[w * a.stride_c] = c.history[w + 1];
#pragma unroll
  for (int t = 0; t < TOKENS; t++)
    if (t < length) c.slot[(W - 2 + t) * a.stride_c] = converted<TConv>(c.x[t]);
}

// Number i of a channel's inputs, oldest first.
INLINE float input(const Stream &c, int i) { return i < W - 1 ? widened(c.history[i]) : widened(c.x[i - (W - 1)]); }

// The sum of o² of each token, for all blocks of the head; lane t of each warp has the warp's for token t.
INLINE void exchange_squares(Shared &s, const Block &b, float squares, int length) {
  const int warp = own_thread() / 32, t = own_thread() % 32;
  if constexpr (JOIN && BY_CLUSTER) {
    if (t < length)
#pragma unroll
      for (int split = 0; split < SPLITS; split++)
        send(s.squares[(t * SPLITS + b.split) * WARPS + warp], b.rank - b.split + split, squares, s.mailbox);
  } else if (t < length) {
    s.squares[t * SUMS + warp] = squares;
  }
  block_barrier();
  if constexpr (JOIN && BY_CLUSTER) wait_for_mail(s.mailbox);
}

// Asks for what needs neither slot nor token of each of the thread's channels.
INLINE void ask_weights(const Arguments &a, const Where (&at)[CHANNELS_EACH], Stream (&streams)[CHANNELS_EACH]) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    load_taps(streams[n].taps, a, at[n].channel);
    load_bias(streams[n].bias, a, at[n].channel);
  }
}

// ... and for the rest.
INLINE void ask_streams(const Arguments &a, const Where (&at)[CHANNELS_EACH], const Row &row, TConv *conv_slot,
                        Stream (&streams)[CHANNELS_EACH]) {
  const TX *x = static_cast<const TX *>(a.x) + row.first * a.stride_x;
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    streams[n].slot = conv_slot + at[n].channel * a.stride_d;
    if (at[n].there) load_history(streams[n].history, a, streams[n].slot, row.accepted - 1);
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
      if (t < row.length) streams[n].x[t] = x[t * a.stride_x + at[n].column];
  }
}

// The convs of each of the thread's channels, for all threads of the block.
INLINE void convolve(const Arguments &a, Shared &s, const Where (&at)[CHANNELS_EACH],
                     const Stream (&streams)[CHANNELS_EACH], int length) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    if (!at[n].there) continue;
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
      if (t >= length) continue;
      float window[W];
#pragma unroll
      for (int w = 0; w < W; w++) window[w] = input(streams[n], t + w);
      const float y = convolved(window, streams[n].taps, streams[n].bias, a.conv_bias, a.conv_silu);
      s.conv[t * CHANNELS + i] = y;
    }
    if (i >= 2 * K || !SHARED_HEAD) store_stream(a, streams[n], length);
  }
}

// The delta rule of token t, and its state stored; the warp's o² of it.
INLINE float advance_token(const Arguments &a, Shared &s, int t, const Place &place, TState *pool,
                           float (&S)[PASSES][CHUNKS][VEC]) {
  const Keys keys = keys_of(s.conv, t * CHANNELS, place, a.scale, a.qk_norm_eps);
  const Gates gates = {s.decay[t], s.beta[t]};
  const bool stored = is_slot(a, s.writes[t]);
  float sum = 0.0f;
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    const int at = t * OUTPUTS + place.row(pass), v_at = t * CHANNELS + 2 * K + place.row(pass);
    float v[ROWS], o[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = place.inside(pass) ? s.conv[v_at + r] : 0.0f;
    advance(S[pass], keys, v, gates, o);
    if (stored) store_tile(pool + s.writes[t] * a.stride_pool, S[pass], place, pass);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (place.inside(pass) && place.lane == 0) s.o[at + r] = o[r];
      sum = place.inside(pass) ? fused(o[r], o[r], sum) : sum;
    }
  }
  return sum_over_lanes<32 / LANES, LANES>(sum);
}

// Shifts the conv state of q and k: this block's part of it, or all.
INLINE void shift_keys(const Arguments &a, const Block &b, const Stream (&streams)[CHANNELS_EACH], int length, bool part) {
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) {
    const int i = n * THREADS + own_thread();
    if (i < 2 * K && (!part || i / SHARE == b.rank)) store_stream(a, streams[n], length);
  }
}

KERNEL(gdn_cuda_spec) {
  SHARED(Shared, s);
  launch_dependents();
  wait_for_preceding();
  const int thread = own_thread();
  const Block b = block_of();
  const Asked asked = ask_tables(a, b.unit);

  // What needs neither slot nor token is asked for while those are on their way.
  const Columns columns = columns_of(b.key_head, a.heads, a.interleaved);
  Where at[CHANNELS_EACH];
#pragma unroll
  for (int n = 0; n < CHANNELS_EACH; n++) at[n] = where(a, b, columns, n * THREADS + thread);
  Stream streams[CHANNELS_EACH] = {};
  ask_weights(a, at, streams);
  const Row row = row_of(a, asked);

  // Tokens beyond the last row are dealt out to the rows.
  const int64 end = value_of(asked.end, a.wide_starts);
  pass_through(a, b, (end < 0 ? 0 : end) + b.unit, a.num_tokens, a.num_rows, a.zero_pads);
  if (a.spec_rows && !static_cast<const unsigned char *>(a.spec_rows)[b.unit]) return;
  if (!row.live) {
    pass_through(a, b, row.first, row.stop, 1, a.zero_pads);
    return;
  }

  const Place place = {thread / LANES, thread % LANES, b.split};
  TState *const pool = static_cast<TState *>(a.pool) + b.head * (V * K) + place.first();
  Tile tiles[PASSES];
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) tiles[pass] = load_tile(pool + row.read * a.stride_pool, place, pass);

  TConv *conv_slot = static_cast<TConv *>(a.conv_pool) + row.own * a.stride_conv;
  ask_streams(a, at, row, conv_slot, streams);
  const int token = THREADS - 1 - thread;  // whose gates and slot are this thread's: the last have the fewest channels
  GateInputs gate_inputs;
  int64 write = 0;
  if (token < row.length) {
    gate_inputs = load_gates(a, row.first + token, b.key_head, b.head);
    write = entry(a.state_indices, b.unit * a.stride_row + token * a.stride_column, a.wide_indices);
  }
  TX z[OUTPUTS_EACH];
  TNorm weight[OUTPUTS_EACH];
  ask_norm(a, b, row.first, row.length, z, weight);

  // All convs, a channel a thread; gates and slots, a token a thread.
  convolve(a, s, at, streams, row.length);
  if (token < row.length) {
    const Gates gates = gates_of(a, gate_inputs);
    s.decay[token] = gates.decay;
    s.beta[token] = gates.beta;
    s.writes[token] = write;
  }
  if (JOIN && BY_CLUSTER && thread == 0) open_mailbox(s.mailbox, row.length * SUMS);
  block_barrier();
  if constexpr (BY_CLUSTER) cluster_arrive();  // this block has read all its history

  float S[PASSES][CHUNKS][VEC], squares = 0.0f;
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) widen(S[pass], tiles[pass]);
  for (int t = 0; t < row.length; t++) {
    const float sum = advance_token(a, s, t, place, pool, S);
    squares = thread % 32 == t ? sum : squares;
  }

  if constexpr (BY_CLUSTER) {
    cluster_wait();  // all blocks of the key head have read
    shift_keys(a, b, streams, row.length, true);
  }
  exchange_squares(s, b, squares, row.length);
  if constexpr (!(JOIN && BY_TICKET)) write_outputs(a, s, b, row.first, row.length, z, weight);
  if (a.z_out) pass_through(a, b, row.first, row.stop, 1, false);
  if constexpr (BY_TICKET) {
    if constexpr (JOIN) hand_over(a, s, b, row.first, row.length);
    if (!is_last(a, s, b, row.own)) return;
    if constexpr (JOIN) take_over(a, b, row.first, row.length);
    shift_keys(a, b, streams, row.length, false);
  }
}
