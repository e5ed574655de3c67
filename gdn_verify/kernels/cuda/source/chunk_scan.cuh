// The state over the chunks of a row: SCANNERS warps with COLUMNS rows of V each, which never leave their registers.
//
// With v' = v - e^G k̂ hᵀ a chunk gives o = e^G q̂ hᵀ + B v' and h ← e^(G_C) h + v'ᵀ W. All is computed transposed, V by
// tokens: a result of one product is then an operand of the next as it lies, and h is one of both.

using State = float[TILES][K / 8][4];

INLINE TState *state_at(const Arguments &a, const Row &row, int64 slot, int warp) {
  const int part = row.column(warp) - row.head * V;
  return static_cast<TState *>(a.pool) + slot * a.stride_pool + row.head * (V * K) + (STATE_KV ? part : part * K);
}

// From the first of a lane's numbers to number i of its four of 8 columns of K.
INLINE int of_lane_in_state() {
  const int lane = thread_index() % 32, v = lane / 4, k = lane % 4 * 2;
  return STATE_KV ? k * V + v : v * K + k;
}
INLINE int of_state(int tile, int n, int i) {
  const int v = 16 * tile + i / 2 * 8, k = 8 * n + i % 2;
  return STATE_KV ? k * V + v : v * K + k;
}

INLINE void load_state(const TState *from, State &h) {
  from += of_lane_in_state();
#pragma unroll
  for (int j = 0; j < TILES * (K / 8) * 4; j += 2) {
    const int tile = j / 4 / (K / 8), n = j / 4 % (K / 8), i = j % 4;
    constexpr int BYTES = 2 * sizeof(TState);
    if constexpr (PAIRED && !STATE_KV) {
      const Words<BYTES> two = load_words<BYTES>(from + of_state(tile, n, i));
      h[tile][n][i] = widened(number<TState>(two, 0));
      h[tile][n][i + 1] = widened(number<TState>(two, 1));
    } else {
      h[tile][n][i] = widened(from[of_state(tile, n, i)]);
      h[tile][n][i + 1] = widened(from[of_state(tile, n, i + 1)]);
    }
  }
}

INLINE void store_state(TState *to, const State &h) {
  to += of_lane_in_state();
#pragma unroll
  for (int j = 0; j < TILES * (K / 8) * 4; j += 2) {
    const int tile = j / 4 / (K / 8), n = j / 4 % (K / 8), i = j % 4;
    const float two[2] = {h[tile][n][i], h[tile][n][i + 1]};
    if constexpr (PAIRED && !STATE_KV) {
      store_words(to + of_state(tile, n, i), vector_of<TState>(two));
    } else {
      to[of_state(tile, n, i)] = converted<TState>(two[0]);
      to[of_state(tile, n, i + 1)] = converted<TState>(two[1]);
    }
  }
}

INLINE int values_at(int chunk, int warp) { return VALUES_AT + (chunk % 2 * SCANNERS + warp) * VALUE_BYTES; }

// Asks for the warp's part of v.
INLINE void ask_values(const Arguments &a, const Row &row, int chunk, int warp, int lane) {
  constexpr int WORDS = COLUMNS / 8, ROWS = 32 / WORDS;
  static_assert(ROWS % 8 == 0, "rows of a lane are permuted alike");
  const int first = lane / WORDS, word = lane % WORDS, last = row.last(chunk);
  const int at = values_at(chunk, warp) + place<COLUMNS>(first, word);
  const int64 step = ROWS * a.stride_v;
  const TX *v = static_cast<const TX *>(a.v) + row.token(chunk) * a.stride_v + row.column(warp) + word * 8;
  if (last == CHUNK - 1) {
    v += first * a.stride_v;
#pragma unroll
    for (int n = 0; n < CHUNK / ROWS; n++, v += step) copy_async<16>(at + n * (ROWS * COLUMNS * 2), v);
    return;
  }
#pragma unroll 1
  for (int n = 0; n < CHUNK / ROWS; n++) {
    const int token = first + n * ROWS;
    const int64 there = token < last ? token : last;
    copy_async<16>(at + n * (ROWS * COLUMNS * 2), v + there * a.stride_v);
  }
}

// A chunk is scanned in PASSES of SQUARES blocks of 16 tokens: results for all of them, and h as operands beside, would
// be too much for the registers where a warp has two tiles of V.
constexpr int PASSES = TILES, SQUARES = CHUNK / 16 / PASSES;
using Result = float[TILES][2 * SQUARES][4];  // V by tokens
using Fresh = Words<16>[TILES][SQUARES];      // v' as operands

INLINE void clear(Result &c) {
#pragma unroll
  for (int i = 0; i < TILES * 2 * SQUARES * 4; i++) c[i / 4 / (2 * SQUARES)][i / 4 % (2 * SQUARES)][i % 4] = 0.0f;
}

// k hᵀ and q hᵀ of a pass, transposed.
INLINE void multiply_state(const State &h, int lane, int keys, Result &of_keys, Result &of_queries) {
  const int columns = keys + place_of_lane_across<K>(lane);
  clear(of_keys), clear(of_queries);
#pragma unroll
  for (int step = 0; step < K / 16; step++) {
    Words<16> rows[TILES];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float(&part)[4] = h[tile][2 * step + i / 2];
        rows[tile].word[i] = pair_here<TX>(part[i % 2 * 2], part[i % 2 * 2 + 1]);
      }
#pragma unroll
    for (int n = 0; n < SQUARES; n++) {
      const int at = down<K>(right(columns, step), n);
      const Words<16> k = load_matrices<false>(at), q = load_matrices<false>(at + KEY_BYTES);
#pragma unroll
      for (int tile = 0; tile < TILES; tile++) {
        multiply_add<TX>(of_keys[tile][2 * n], of_keys[tile][2 * n + 1], rows[tile], k);
        multiply_add<TX>(of_queries[tile][2 * n], of_queries[tile][2 * n + 1], rows[tile], q);
      }
    }
  }
}

// The factors of a lane's tokens among 16: numbers 0 and 1, and 8 and 9 from there.
INLINE void load_factors(int lane, int at, int square, float (&of)[4]) {
  const int first = at + 64 * square + lane % 4 * 8;
  const Words<8> near = take_copied<8>(first), far = take_copied<8>(first + 32);
  of[0] = as_float(near.word[0]), of[1] = as_float(near.word[1]);
  of[2] = as_float(far.word[0]), of[3] = as_float(far.word[1]);
}

// v' from k hᵀ.
INLINE void freshen(const Result &held, int lane, int values, int factors, Fresh &fresh) {
  const int across = values + place_of_lane_across<COLUMNS>(lane);
#pragma unroll
  for (int n = 0; n < SQUARES; n++) {
    float of[4];
    load_factors(lane, factors, n, of);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      const Words<16> v = load_matrices<true>(down<COLUMNS>(right(across, tile), n));
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float(&part)[4] = held[tile][2 * n + i / 2];
        const float first = fused(-part[i % 2 * 2], of[i / 2 * 2], widened(number<TX>(v, 2 * i)));
        const float second = fused(-part[i % 2 * 2 + 1], of[i / 2 * 2 + 1], widened(number<TX>(v, 2 * i + 1)));
        fresh[tile][n].word[i] = pair_of<TX>(first, second);
      }
    }
  }
}

// o from q hᵀ: e^G scale / ‖q‖ times that,
INLINE void scale_outputs(Result &o, int lane, int factors) {
#pragma unroll
  for (int n = 0; n < SQUARES; n++) {
    float of[4];
    load_factors(lane, factors, n, of);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
      for (int i = 0; i < 8; i++) o[tile][2 * n + i / 4][i % 4] *= of[i / 4 * 2 + i % 2];
  }
}

// ... and B v' of a pass's tokens, those from `first` on or, with WHOLE, of a pass before it.
template <bool WHOLE>
INLINE void add_fresh(Result &o, int lane, int b, int pass, int first, const Fresh &fresh) {
  const int across = b + place_of_lane_across<16>(lane);
#pragma unroll
  for (int n = 0; n < SQUARES; n++)
#pragma unroll
    for (int j = 0; j < (WHOLE ? SQUARES : n + 1); j++) {
      const Words<16> B = load_matrices<false>(square_at(pass * SQUARES + n, first + j) + across);
#pragma unroll
      for (int tile = 0; tile < TILES; tile++)
        multiply_add<TX>(o[tile][2 * n], o[tile][2 * n + 1], fresh[tile][j], B);
    }
}

// o of a pass to where its v was.
template <class Out>
INLINE void stage_outputs(int lane, int values, const Result &o) {
  const int across = values + place_of_lane_across<COLUMNS>(lane);
#pragma unroll
  for (int n = 0; n < SQUARES; n++)
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
      store_matrices<true>(down<COLUMNS>(right(across, tile), n), operand<Out>(o[tile][2 * n], o[tile][2 * n + 1]));
}

// ... and all from there to memory.
template <class Out>
INLINE void store_staged(Out *out, int64 stride, int last, int lane, int values) {
  constexpr int WORDS = COLUMNS / 8, ROWS = 32 / WORDS;
  const int first = lane / WORDS, word = lane % WORDS, at = values + place<COLUMNS>(first, word);
  out += first * stride + word * 8;
  warp_barrier();
  if (last == CHUNK - 1) {
#pragma unroll
    for (int n = 0; n < CHUNK / ROWS; n++, out += ROWS * stride)
      store_words(out, take_copied<16>(at + n * (ROWS * COLUMNS * 2)));
    return;
  }
#pragma unroll 1
  for (int n = 0; n * ROWS + first <= last; n++, out += ROWS * stride)
    store_words(out, take_copied<16>(at + n * (ROWS * COLUMNS * 2)));
}

// Number by number, where words do not fit.
template <class Out>
INLINE void store_numbers(Out *out, int64 stride, int last, int pass, const Result &o) {
  const int lane = thread_index() % 32;
#pragma unroll
  for (int i = 0; i < TILES * 2 * SQUARES * 4; i++) {
    const int tile = i / 4 / (2 * SQUARES), n = i / 4 % (2 * SQUARES);
    const int token = 16 * SQUARES * pass + 8 * n + lane % 4 * 2 + i % 2, v = 16 * tile + lane / 4 + i % 4 / 2 * 8;
    if (token <= last) out[token * stride + v] = converted<Out>(o[tile][n][i % 4]);
  }
}

// h += v'ᵀ W of a pass.
INLINE void add_to_state(State &h, int lane, int w, const Fresh &fresh) {
  const int rows = w + place_of_lane<K>(lane);
#pragma unroll
  for (int j = 0; j < SQUARES; j++)
#pragma unroll
    for (int n = 0; n < K / 16; n++) {
      const Words<16> W = load_matrices<true>(down<K>(right(rows, n), j));
#pragma unroll
      for (int tile = 0; tile < TILES; tile++)
        multiply_add<TX>(h[tile][2 * n], h[tile][2 * n + 1], fresh[tile][j], W);
    }
}

// Where a chunk's o begins; found anew where it is needed, as registers are short.
template <class Out>
INLINE Out *outputs_at(const Arguments &a, const Row &row, int chunk, int warp) {
  return static_cast<Out *>(a.out) + row.token(chunk) * a.stride_out + row.column(warp);
}

// A lane's number, and its warp's, which the compiler takes for others each time: what follows from them is found anew.
INLINE int some_lane(Shared &s) { return (thread_index() + s.zero[0]) % 32; }
INLINE int some_warp(Shared &s) { return (thread_index() + s.zero[0]) / 32 - TEAMS * FOLDERS; }

template <class Out>
INLINE void scan_chunk(const Arguments &a, Shared &s, const Row &row, int chunk, int warp, State &h) {
  constexpr bool BY_WORDS = STAGED && sizeof(Out) == 2;
  Fresh before = {}, fresh = {};
#pragma unroll 1
  for (int pass = 0; pass < PASSES; pass++) {
    Result held, o;
    const int lane = some_lane(s);
    multiply_state(h, lane, down<K>(keys_at(chunk), pass * SQUARES), held, o);
#pragma unroll
    for (int i = 0; PASSES > 1 && i < TILES * SQUARES; i++) before[i / SQUARES][i % SQUARES] = fresh[i / SQUARES][i % SQUARES];
    const int values = down<COLUMNS>(values_at(chunk, warp), pass * SQUARES);
    const int factors = factors_at(chunk) + 64 * SQUARES * pass;
    freshen(held, lane, values, factors, fresh);
    scale_outputs(o, lane, factors + FACTOR_BYTES);
    if (pass) add_fresh<true>(o, lane, b_at(chunk), pass, 0, before);
    add_fresh<false>(o, lane, b_at(chunk), pass, pass * SQUARES, fresh);
    if constexpr (BY_WORDS)
      stage_outputs<Out>(lane, values, o);
    else
      store_numbers(outputs_at<Out>(a, row, chunk, warp), a.stride_out, row.last(chunk), pass, o);
  }
  const int lane = some_lane(s);
  if constexpr (BY_WORDS)
    store_staged(outputs_at<Out>(a, row, chunk, warp), a.stride_out, row.last(chunk), lane, values_at(chunk, warp));
  const float whole = s.gates[chunk % STAGES].from_start[CHUNK - 1];
#pragma unroll
  for (int i = 0; i < TILES * (K / 8) * 4; i++) h[i / 4 / (K / 8)][i / 4 % (K / 8)][i % 4] *= whole;
  if constexpr (PASSES > 1) add_to_state(h, lane, w_at(chunk), before);
  add_to_state(h, lane, down<K>(w_at(chunk), (PASSES - 1) * SQUARES), fresh);
}

INLINE void scan_row(const Arguments &a, Shared &s, const Row &row) {
  ask_values(a, row, 0, some_warp(s), some_lane(s));
  commit_copies();
  if (row.has(1)) ask_values(a, row, 1, some_warp(s), some_lane(s));
  commit_copies();
  State h = {};
  if (row.known) load_state(state_at(a, row, row.read, some_warp(s)), h);
  for (int chunk = 0; row.has(chunk); chunk++) {
    wait_for_copies<1>();
    meet(folded(chunk), HANDING);
    scan_chunk<TOut>(a, s, row, chunk, some_warp(s), h);
    warp_barrier();  // before v comes where o was
    if (row.has(chunk + SLOTS)) arrive(scanned(chunk), HANDING);
    if (row.has(chunk + STAGES)) arrive(emptied(chunk), EMPTYING);
    if (row.has(chunk + 2)) ask_values(a, row, chunk + 2, some_warp(s), some_lane(s));
    commit_copies();
  }
  store_state(state_at(a, row, row.own, some_warp(s)), h);
}
