// A chunk folded by four warps, each with a block row of 16 tokens: all of it that needs no state.
//
// With G the running sum of g, D_ij = e^(G_i - G_j) for i ≥ j, L = tril(diag(β) k̂ k̂ᵀ ∘ D, -1), T = (I + L)⁻¹, made are
//
//     B = (q̂ k̂ᵀ ∘ D) T diag(β),   W = diag(β) Tᵀ (diag(e^(G_C - G)) k̂),   e^G / ‖k‖,   e^G scale / ‖q‖,   e^(G_C),
//
// and T by blocks of 2, 4, … 64 tokens: below the diagonal T₂₁ = T₂₂ (-L₂₁) T₁₁. Blocks of 16 are a warp's own; beyond
// them warps hand T on. Operands made here are float16: all are about 1 in size. No exponent is positive.

// What a warp knows of its block row; its lane's rows are `row` and row + 8. The block row's blocks to the left of the
// diagonal are scored by whoever has time: (3, 0) by the first warp, which has none of its own.
struct Fold {
  int team, warp, lane, row, two;  // of a team's warps, and of their lanes

  INLINE_MEMBER int token(int block, int i) const { return 16 * block + row + 8 * i; }
  INLINE_MEMBER int column(int i) const { return two + i / 4 * 8 + i % 2; }  // of number i of a square
  INLINE_MEMBER int key(int token) const { return team * CHUNK + token; }
  INLINE_MEMBER int inverse() const { return INVERSE_AT + team * INVERSE_BYTES; }
  INLINE_MEMBER int handed(int square) const { return inverse() + TRIANGLE_BYTES + square * SQUARE_BYTES; }
  INLINE_MEMBER int scored_row() const { return warp ? warp : 3; }
  INLINE_MEMBER int scored_first() const { return warp == 3; }
  INLINE_MEMBER int scored_count() const { return warp < 2 ? 1 : 2; }
};
constexpr int MOST_SCORED = 2;
constexpr int OF_ROW_2 = 0, OF_BLOCK_30 = 2;  // what is handed on: -L of (2, 0) and (2, 1); (3, 0), -L and then weights

INLINE Fold fold_of(int thread) {
  const int lane = thread % 32;
  return {thread / FOLDING, thread / 32 % FOLDERS, lane, lane / 4, lane % 4 * 2};
}

// k kᵀ, q kᵀ and q qᵀ of the block on the diagonal, as k and q are given.
INLINE void score_own(const Fold &f, int keys, Square &kk, Square &qk, Square &qq) {
  const int at = keys + down<K>(place_of_lane<K>(f.lane), f.warp);
  const int across = keys + down<K>(place_of_lane_across<K>(f.lane), f.warp);
  clear(kk), clear(qk), clear(qq);
#pragma unroll 4
  for (int step = 0; step < K / 16; step++) {
    const Words<16> k = load_matrices<false>(right(at, step)), q = load_matrices<false>(right(at, step) + KEY_BYTES);
    const Words<16> k_right = load_matrices<false>(right(across, step));
    const Words<16> q_right = load_matrices<false>(right(across, step) + KEY_BYTES);
    multiply_add<TX>(kk, k, k_right);
    multiply_add<TX>(qk, q, k_right);
    multiply_add<TX>(qq, q, q_right);
  }
}

// k kᵀ and q kᵀ of the blocks that the warp scores.
INLINE void score_left(const Fold &f, int keys, Square (&kk)[MOST_SCORED], Square (&qk)[MOST_SCORED]) {
  const int at = keys + down<K>(place_of_lane<K>(f.lane), f.scored_row());
  const int left = keys + down<K>(place_of_lane_across<K>(f.lane), f.scored_first());
#pragma unroll
  for (int n = 0; n < MOST_SCORED; n++) clear(kk[n]), clear(qk[n]);
#pragma unroll 4
  for (int step = 0; step < K / 16; step++) {
    const Words<16> k = load_matrices<false>(right(at, step)), q = load_matrices<false>(right(at, step) + KEY_BYTES);
#pragma unroll
    for (int n = 0; n < MOST_SCORED; n++) {
      if (n >= f.scored_count()) continue;
      const Words<16> other = load_matrices<false>(down<K>(right(left, step), n));
      multiply_add<TX>(kk[n], k, other);
      multiply_add<TX>(qk[n], q, other);
    }
  }
}

// 1 / ‖x‖ of the lane's rows, from x xᵀ of the block: ‖x‖² of row r is in lane 4 r + r / 2.
INLINE void lengths(const Arguments &a, const Fold &f, const Square &xx, Array<float, TEAMS * CHUNK> &of) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float squares = f.row % 2 ? xx[i][2 * i + 1] : xx[i][2 * i];
    if (f.two / 2 == f.row / 2) of[f.key(f.token(f.warp, i))] = a.qk_norm ? quick_inverse_root(squares + a.eps) : 1.0f;
  }
}

// Two matrices of 8 × 8, those on a square's diagonal: on the left of a product they are a square, and what they multiply
// stands below each other, so that one instruction has both products.
using Corners = float[4];
INLINE Words<16> corners(const Corners &c) {
  return {{pair_of<Float16>(c[0], c[1]), 0u, 0u, pair_of<Float16>(c[2], c[3])}};
}

// Where number (i, j) of 8 × 8 stands: 0 on the diagonal, else 1, 2 or 3 for the size of blocks, 1, 2 or 4, of which it is
// in the one below a pair's first, and negative above.
INLINE int standing(int i, int j) {
  const int apart = i ^ j, size = apart >= 4 ? 3 : apart >= 2 ? 2 : apart;
  return i > j ? size : -size;
}

// Of -L of 16 tokens, strictly lower, and of its transposed: the corners on the diagonal, and what is above them.
struct Lower {
  Corners N, NT;
  float above[2];
};

// (I + L)⁻¹ by blocks of 2, 4, 8 and 16. X and its transposed are both kept, as a result is an operand on the left as it
// lies, and the transposed of one on the right.
INLINE void invert_square(const Fold &f, const Lower &m, Square &T) {
  Corners X, XT;
  const int stands[2] = {standing(f.row, f.two), standing(f.row, f.two + 1)};
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const float one = stands[n % 2] == 0 ? 1.0f : 0.0f;
    X[n] = stands[n % 2] == 1 ? m.N[n] : one;
    XT[n] = stands[n % 2] == -1 ? m.NT[n] : one;
  }
#pragma unroll
  for (int size = 2; size < 4; size++) {
    Corners below, above, left = {}, leftT = {};
#pragma unroll
    for (int n = 0; n < 4; n++) {
      below[n] = stands[n % 2] == size ? m.N[n] : 0.0f;
      above[n] = stands[n % 2] == -size ? m.NT[n] : 0.0f;
    }
    const Words<16> x = corners(X), xT = corners(XT);
    multiply_add<Float16>(left, x, pair_of<Float16>(above[0], above[1]), pair_of<Float16>(above[2], above[3]));
    multiply_add<Float16>(leftT, xT, pair_of<Float16>(below[0], below[1]), pair_of<Float16>(below[2], below[3]));
    multiply_add<Float16>(X, corners(left), xT.word[0], xT.word[3]);
    multiply_add<Float16>(XT, corners(leftT), x.word[0], x.word[3]);
  }
  Corners left = {};
  clear(T);
  multiply_add<Float16>(left, corners(X), 0u, pair_of<Float16>(m.above[0], m.above[1]));
  multiply_add<Float16>(T[0], {{0u, pair_of<Float16>(left[2], left[3]), 0u, 0u}}, pair_of<Float16>(XT[0], XT[1]), 0u);
  T[0][0] = X[0], T[0][1] = X[1], T[1][2] = X[2], T[1][3] = X[3];
}

// On the diagonal: -L, and (q̂ k̂ᵀ ∘ D) as an operand.
INLINE void weigh_own(Shared &s, ChunkGates &g, const Fold &f, const Square &kk, const Square &qk, Lower &m,
                      Words<16> &weights) {
  Square P;
  float of_key[2], of_query[2], beta[2];
  double G[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = f.token(f.warp, i);
    of_key[i] = s.of_keys[f.key(token)], of_query[i] = s.of_queries[f.key(token)];
    beta[i] = g.beta[token], G[i] = g.G[token];
  }
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const int i = n / 2 % 2, column = 16 * f.warp + f.column(n), at = 2 * i + n % 2;
    const bool left = n / 4 < i, above = n / 4 > i;
    const float between = static_cast<float>(G[i] - g.G[column]);
    const float D = power_of_2(between < 0.0f ? between : -between) * s.of_keys[f.key(column)];
    const float x = -kk[n / 4][n % 4] * D * of_key[i];
    if (!left && !above) m.N[at] = x * beta[i], m.NT[at] = x * g.beta[column];
    if (above) m.above[n % 2] = x * g.beta[column];
    P[n / 4][n % 4] = left || (!above && f.row >= f.two + n % 2) ? qk[n / 4][n % 4] * D * of_query[i] : 0.0f;
  }
  weights = operand<Float16>(P);
}

// To the left of it: -L and (q̂ k̂ᵀ ∘ D) of the blocks that the warp has scored, as operands.
INLINE void weigh_left(Shared &s, ChunkGates &g, const Fold &f, const Square (&kk)[MOST_SCORED],
                       const Square (&qk)[MOST_SCORED], Words<16> (&lower)[MOST_SCORED], Words<16> (&weights)[MOST_SCORED]) {
  float of_k[2], of_q[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = f.token(f.scored_row(), i);
    of_k[i] = -g.from_block[token] * s.of_keys[f.key(token)] * g.beta[token];
    of_q[i] = g.from_block[token] * s.of_queries[f.key(token)];
  }
#pragma unroll
  for (int l = 0; l < MOST_SCORED; l++) {
    if (l >= f.scored_count()) continue;
    Square N, P;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const int token = 16 * (f.scored_first() + l) + f.column(n), i = n / 2 % 2;
      const float D = g.to_block[to_block(f.scored_row()) + token] * s.of_keys[f.key(token)];
      N[n / 4][n % 4] = kk[l][n / 4][n % 4] * of_k[i] * D;
      P[n / 4][n % 4] = qk[l][n / 4][n % 4] * of_q[i] * D;
    }
    lower[l] = operand<Float16>(N);
    weights[l] = operand<Float16>(P);
  }
}

// How many times k̂ e^(G_C - G) is to be a float16 operand: what decays until the chunk's end must not be denormal, or W of
// tokens that alone have written would be all noise. |k̂| is 1 at most; keys that are taken as they are have some room.
INLINE float lift(const Arguments &a) { return a.qk_norm ? 0x1p15f : 0x1p5f; }
INLINE float drop(const Arguments &a) { return a.qk_norm ? 0x1p-15f : 0x1p-5f; }

// That of the block row to where W will be.
INLINE void store_unit_keys(const Arguments &a, Shared &s, ChunkGates &g, const Fold &f, int keys, int w) {
  float of[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = f.token(f.warp, i);
    of[i] = s.of_keys[f.key(token)] * (g.to_end[token] * lift(a));
  }
  const int rows = down<K>(place_of_lane<K>(f.lane), f.warp);
#pragma unroll 1
  for (int half = 0; half < K / 64; half++) {
    Words<16> k[4];
#pragma unroll
    for (int step = 0; step < 4; step++) k[step] = load_matrices<false>(keys + right(rows, 4 * half + step));
#pragma unroll
    for (int step = 0; step < 4; step++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float first = widened(number<TX>(k[step], 2 * i)), second = widened(number<TX>(k[step], 2 * i + 1));
        k[step].word[i] = pair_of<Float16>(first * of[i % 2], second * of[i % 2]);
      }
      store_matrices<false>(w + right(rows, 4 * half + step), k[step]);
    }
  }
}

// The block row's part of T below the diagonal, to where the others find it; they meet twice.
INLINE void invert_below(const Fold &f, const Words<16> &own, const Words<16> (&lower)[MOST_SCORED],
                         const Words<16> (&weights)[MOST_SCORED]) {
  Square left[MOST_SCORED];
#pragma unroll
  for (int l = 0; l < MOST_SCORED; l++) {
    clear(left[l]);
    if (l >= f.scored_count() || f.warp == 0) continue;
    multiply_add<Float16>(left[l], own, as_right(lower[l]));
    if (f.warp == 2) store_square(f.handed(OF_ROW_2 + l), f.lane, lower[l]);
  }
  if (f.warp == 0) {
    store_square(f.handed(OF_BLOCK_30), f.lane, lower[0]);
    store_square(f.handed(OF_BLOCK_30 + 1), f.lane, weights[0]);
  }
  Words<16> beside = {};  // of a pair of blocks
#pragma unroll
  for (int l = 0; l < MOST_SCORED; l++) {
    if (f.warp != 2 * l + 1) continue;
    Square T;
    clear(T);
    multiply_add<Float16>(T, operand<Float16>(left[l]), load_right(f.inverse() + square_at(2 * l, 2 * l), f.lane));
    beside = operand<Float16>(T);
    store_square(f.inverse() + square_at(2 * l + 1, 2 * l), f.lane, beside);
  }
  meet_team(f.team);
  if (f.warp >= 2) {
    Words<16> a[2];
    if (f.warp == 3) {
#pragma unroll
      for (int i = 0; i < 8; i++) left[1][i / 4][i % 4] = left[0][i / 4][i % 4];  // of (3, 1)
      clear(left[0]);
      multiply_add<Float16>(left[0], own, load_right(f.handed(OF_BLOCK_30), f.lane));
#pragma unroll
      for (int l = 0; l < 2; l++) multiply_add<Float16>(left[l], beside, load_right(f.handed(OF_ROW_2 + l), f.lane));
    }
#pragma unroll
    for (int l = 0; l < 2; l++) a[l] = operand<Float16>(left[l]);
    Square T[2];
    clear(T[0]), clear(T[1]);
    multiply_add<Float16>(T[0], a[0], load_right(f.inverse() + square_at(0, 0), f.lane));
    multiply_add<Float16>(T[1], a[1], load_right(f.inverse() + square_at(1, 1), f.lane));
    multiply_add<Float16>(T[0], a[1], load_right(f.inverse() + square_at(1, 0), f.lane));
#pragma unroll
    for (int l = 0; l < 2; l++) store_square(f.inverse() + square_at(f.warp, l), f.lane, operand<Float16>(T[l]));
  }
  meet_team(f.team);
}

// The block row of B.
INLINE void store_b(const Arguments &a, ChunkGates &g, const Fold &f, const Words<16> (&weights)[MOST_SCORED],
                    const Words<16> &own, int b) {
  Words<16> P[FOLDERS - 1];  // by columns; the first warp has scored another row's
  P[0] = f.warp == 3 ? load_matrices<false>(f.handed(OF_BLOCK_30 + 1) + place_of_lane<16>(f.lane)) : weights[0];
  P[1] = f.warp == 3 ? weights[0] : weights[1];
  P[2] = weights[1];
#pragma unroll
  for (int j = 0; j < FOLDERS; j++) {
    if (j > f.warp) continue;
    Square B;
    clear(B);
#pragma unroll
    for (int l = j; l < FOLDERS - 1; l++)
      if (l < f.warp) multiply_add<Float16>(B, P[l], load_right(f.inverse() + square_at(l, j), f.lane));
    multiply_add<Float16>(B, own, load_right(f.inverse() + square_at(f.warp, j), f.lane));
#pragma unroll
    for (int n = 0; n < 8; n++) B[n / 4][n % 4] *= a.scale * g.beta[16 * j + f.column(n)];
    store_square(b + square_at(f.warp, j), f.lane, operand<TX>(B));
  }
}

// A quarter of W's columns, over k̂ of the same columns, which nobody else reads.
INLINE void store_w(const Arguments &a, ChunkGates &g, const Fold &f, int w) {
  constexpr int SQUARES = K / 16 / FOLDERS;
  const int rows = place_of_lane<K>(f.lane), across = place_of_lane_across<16>(f.lane);
  Square W[FOLDERS][SQUARES];
#pragma unroll
  for (int j = 0; j < FOLDERS; j++)
#pragma unroll
    for (int n = 0; n < SQUARES; n++) clear(W[j][n]);
#pragma unroll
  for (int i = 0; i < FOLDERS; i++) {
    Words<16> k[SQUARES];
#pragma unroll
    for (int n = 0; n < SQUARES; n++) k[n] = load_matrices<true>(w + down<K>(right(rows, f.warp * SQUARES + n), i));
#pragma unroll
    for (int j = 0; j <= i; j++) {
      const Words<16> T = load_matrices<true>(f.inverse() + square_at(i, j) + across);
#pragma unroll
      for (int n = 0; n < SQUARES; n++) multiply_add<Float16>(W[j][n], T, k[n]);
    }
  }
#pragma unroll
  for (int j = 0; j < FOLDERS; j++) {
    const float above = g.beta[16 * j + f.row] * drop(a), below = g.beta[16 * j + f.row + 8] * drop(a);
#pragma unroll
    for (int n = 0; n < SQUARES; n++) {
#pragma unroll
      for (int i = 0; i < 8; i++) W[j][n][i / 4][i % 4] *= i / 2 % 2 ? below : above;
      store_matrices<false>(w + down<K>(right(rows, f.warp * SQUARES + n), j), operand<TX>(W[j][n]));
    }
  }
}

// What scales the products of the scan.
INLINE void store_factors(const Arguments &a, Shared &s, ChunkGates &g, const Fold &f, int chunk) {
  const int token = f.lane % 16 + 16 * f.warp, at = factors_at(chunk) + 4 * token;
  if (f.lane < 16)
    put<4>(at, Words<4>{{as_bits(g.from_start[token] * s.of_keys[f.key(token)])}});
  else
    put<4>(at + FACTOR_BYTES, Words<4>{{as_bits(g.from_start[token] * s.of_queries[f.key(token)] * a.scale)}});
}

INLINE void fold_chunk(const Arguments &a, Shared &s, int chunk) {
  const int keys = keys_at(chunk);
  const Fold f = fold_of(thread_index() + s.zero[0]);
  ChunkGates &g = s.gates[chunk % STAGES];
  Words<16> weights[MOST_SCORED] = {}, own_weights, lower[MOST_SCORED] = {}, own;
  {
    Square kk, qk, qq, T;
    Lower m;
    score_own(f, keys, kk, qk, qq);
    lengths(a, f, kk, s.of_keys);
    lengths(a, f, qq, s.of_queries);
    warp_barrier();
    weigh_own(s, g, f, kk, qk, m, own_weights);
    invert_square(f, m, T);
    own = operand<Float16>(T);
    store_square(f.inverse() + square_at(f.warp, f.warp), f.lane, own);
  }
  {
    Square kk[MOST_SCORED], qk[MOST_SCORED];
    score_left(f, keys, kk, qk);
    meet_team(f.team);  // all lengths and blocks of the diagonal are there
    weigh_left(s, g, f, kk, qk, lower, weights);
  }
  if (chunk >= SLOTS) meet(scanned(chunk), HANDING);
  store_unit_keys(a, s, g, f, keys, w_at(chunk));
  store_factors(a, s, g, f, chunk);
  invert_below(f, own, lower, weights);
  store_b(a, g, f, weights, own_weights, b_at(chunk));
  store_w(a, g, f, w_at(chunk));
}

// The team's chunks of the row.
INLINE void fold_row(const Arguments &a, Shared &s, const Row &row, int team) {
  for (int chunk = team; row.has(chunk); chunk += TEAMS) {
    meet(fetched(chunk), FETCHING);
    fold_chunk(a, s, chunk);
    arrive(folded(chunk), HANDING);
  }
}
