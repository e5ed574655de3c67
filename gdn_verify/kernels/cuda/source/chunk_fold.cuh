// A chunk folded by four warps, each with a block row of 16 tokens: all of it that needs no state.
//
// With G the running sum of g, D_ij = e^(G_i - G_j) for i ≥ j, L = tril(diag(β) k̂ k̂ᵀ ∘ D, -1), T = (I + L)⁻¹, made are
//
//     B = (q̂ k̂ᵀ ∘ D) T diag(β),   W = diag(β) Tᵀ (diag(e^(G_C - G)) k̂),   e^G / ‖k‖,   e^G scale / ‖q‖,   e^(G_C),
//
// and T by blocks of 2, 4, … 64 tokens: below the diagonal T₂₁ = T₂₂ (-L₂₁) T₁₁. Blocks of 16 are a warp's own; beyond
// them warps hand T on. G is in float64, as differences of large sums are all noise in float32, and in units of log 2.
// Operands made here are float16: all are about 1 in size. No exponent is positive.

constexpr double PER_LOG_2 = 1.4426950408889634;

// g and β of a lane's two tokens, 2 lane and the one after it.
struct GatePair {
  float g[2], beta[2];
};

INLINE GatePair ask_gates(const Arguments &a, const Row &row, int chunk, int thread) {
  GatePair gates;
  const int first = thread % 32 * 2, last = row.last(chunk);
  const int stride_g = static_cast<int>(a.stride_g), stride_beta = static_cast<int>(a.stride_beta);
  const TG *g = static_cast<const TG *>(a.g) + row.token(chunk) * a.stride_g + row.head;
  const TBeta *beta = static_cast<const TBeta *>(a.beta) + row.token(chunk) * a.stride_beta + row.head;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const bool there = first + i <= last;
    gates.g[i] = there ? widened(g[(first + i) * stride_g]) : 0.0f;
    gates.beta[i] = there ? widened(beta[(first + i) * stride_beta]) : 0.0f;
  }
  return gates;
}

// Asks for k and q of a chunk. `thread` is of its team.
INLINE void ask_keys(const Arguments &a, const Row &row, int chunk, int thread) {
  constexpr int WORDS = K / 8, ROWS = FOLDING / WORDS;
  static_assert(ROWS % 8 == 0, "rows of a thread are permuted alike");
  const int first = thread / WORDS, word = thread % WORDS, last = row.last(chunk);
  const int at = keys_at(chunk) + place<K>(first, word);
  const int64 step_k = ROWS * a.stride_k, step_q = ROWS * a.stride_q;
  const TX *k = static_cast<const TX *>(a.k) + row.token(chunk) * a.stride_k + row.key_head() * K + word * 8;
  const TX *q = static_cast<const TX *>(a.q) + row.token(chunk) * a.stride_q + row.key_head() * K + word * 8;
  if (last == CHUNK - 1) {
    k += first * a.stride_k;
    q += first * a.stride_q;
#pragma unroll
    for (int n = 0; n < CHUNK / ROWS; n++, k += step_k, q += step_q) {
      copy_async<16>(at + n * (ROWS * K * 2), k);
      copy_async<16>(at + n * (ROWS * K * 2) + KEY_BYTES, q);
    }
    return;
  }
#pragma unroll 1
  for (int n = 0; n < CHUNK / ROWS; n++) {
    const int token = first + n * ROWS;
    const int64 there = token < last ? token : last;
    copy_async<16>(at + n * (ROWS * K * 2), k + there * a.stride_k);
    copy_async<16>(at + n * (ROWS * K * 2) + KEY_BYTES, q + there * a.stride_q);
  }
}

INLINE float decayed(double exponent) {
  const float x = static_cast<float>(exponent);
  return power_of_2(x < 0.0f ? x : 0.0f);
}

// What a warp knows of its block row; its lane's rows are `row` and row + 8.
struct Fold {
  int team, warp, lane, row, two;  // of a team's warps, and of their lanes
  float beta[2];
  float of_key[2], of_query[2];  // 1 / ‖k‖ and 1 / ‖q‖

  INLINE_MEMBER int at(int i) const { return (team * FOLDERS + warp) * CHUNK + i; }  // in the warp's part of an array
  INLINE_MEMBER int token(int i) const { return 16 * warp + row + 8 * i; }
  INLINE_MEMBER int column(int i) const { return two + i / 4 * 8 + i % 2; }  // of number i of a square
  INLINE_MEMBER int key(int token) const { return team * CHUNK + token; }
  INLINE_MEMBER int inverse() const { return INVERSE_AT + team * INVERSE_BYTES; }
  INLINE_MEMBER int lower() const { return inverse() + TRIANGLE_BYTES; }
};

INLINE Fold fold_of(int thread) {
  const int lane = thread % 32;
  return {thread / FOLDING, thread / 32 % FOLDERS, lane, lane / 4, lane % 4 * 2};
}

// The running sum over the chunk, and the decays of the tokens before the block row to the last of them.
INLINE void sum_gates(Shared &s, Fold &f, const GatePair &gates) {
  const double first = gates.g[0] * PER_LOG_2, both = first + gates.g[1] * PER_LOG_2;
  double sum = both;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const double below = of_lane(sum, f.lane - step);
    sum += f.lane >= step ? below : 0.0;
  }
  const double before = of_lane(sum, f.lane - 1);
  s.G[f.at(2 * f.lane)] = first + (f.lane ? before : 0.0);
  s.G[f.at(2 * f.lane + 1)] = sum;
  s.beta[f.at(2 * f.lane)] = gates.beta[0];
  s.beta[f.at(2 * f.lane + 1)] = gates.beta[1];
  warp_barrier();
  const double reached = f.warp ? s.G[f.at(16 * f.warp - 1)] : 0.0;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = f.lane + 32 * i;
    if (token < 16 * f.warp) s.decay[f.at(token)] = decayed(reached - s.G[f.at(token)]);
    f.beta[i] = s.beta[f.at(f.token(i))];
  }
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

// k kᵀ and q kᵀ of a block to its left.
INLINE void score_left(const Fold &f, int keys, int block, Square &kk, Square &qk) {
  const int at = keys + down<K>(place_of_lane<K>(f.lane), f.warp), left = keys + down<K>(place_of_lane_across<K>(f.lane), block);
  clear(kk), clear(qk);
#pragma unroll 4
  for (int step = 0; step < K / 16; step++) {
    const Words<16> k = load_matrices<false>(right(at, step)), q = load_matrices<false>(right(at, step) + KEY_BYTES);
    const Words<16> other = load_matrices<false>(right(left, step));
    multiply_add<TX>(kk, k, other);
    multiply_add<TX>(qk, q, other);
  }
}

// 1 / ‖x‖ of the lane's rows, from x xᵀ of the block: ‖x‖² of row r is in lane 4 r + r / 2.
INLINE void lengths(const Arguments &a, const Fold &f, const Square &xx, float (&of)[2]) {
  const bool odd = f.row % 2;
  const int holder = 4 * f.row + f.row / 2;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float squares = of_lane(odd ? xx[i][2 * i + 1] : xx[i][2 * i], holder);
    of[i] = a.qk_norm ? quick_inverse_root(squares + a.eps) : 1.0f;
  }
}

// A square of which only the 8 × 8 numbers in two opposite corners are not zero, as an operand: those on its diagonal.
INLINE Words<16> corners(const Square &c) {
  return {{pair_of<Float16>(c[0][0], c[0][1]), 0u, 0u, pair_of<Float16>(c[1][2], c[1][3])}};
}

// Number n of the four in the corners, of a square.
INLINE float &corner(Square &c, int n) { return c[n / 2][n / 2 * 2 + n % 2]; }

// (I - N)⁻¹ of 16 tokens, by blocks of 2, 4, 8 and 16. N is strictly lower and NT its transposed; of N the corners on the
// diagonal are asked for alone, and of NT what is above them too. X and its transposed are both kept, as a result is an
// operand on the left as it lies, and the transposed of one on the right.
INLINE void invert_square(const Fold &f, Square &N, Square &NT, Square &X) {
  Square XT;
  clear(X), clear(XT);
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const int i = f.row, j = f.two + n % 2;
    const float one = i == j ? 1.0f : 0.0f;
    corner(X, n) = i == j + 1 && i % 2 ? corner(N, n) : one;
    corner(XT, n) = j == i + 1 && j % 2 ? corner(NT, n) : one;
  }
#pragma unroll
  for (int level = 1; level < 3; level++) {
    Square below, above, left, leftT;
#pragma unroll
    for (int n = 0; n < 4; n++) {
      const int i = f.row >> level, j = (f.two + n % 2) >> level;
      corner(below, n) = i == j + 1 && i % 2 ? corner(N, n) : 0.0f;
      corner(above, n) = j == i + 1 && j % 2 ? corner(NT, n) : 0.0f;
    }
    const Words<16> x = corners(X), xT = corners(XT);
    clear(left), clear(leftT);
    multiply_add_transposed<Float16>(left, x, corners(above));
    multiply_add_transposed<Float16>(leftT, xT, corners(below));
    multiply_add_transposed<Float16>(X, corners(left), xT);
    multiply_add_transposed<Float16>(XT, corners(leftT), x);
  }
  float left[4] = {};
  multiply_add<Float16>(left, corners(X), 0u, pair_of<Float16>(NT[1][0], NT[1][1]));
  const Words<16> step = {{0u, pair_of<Float16>(left[2], left[3]), 0u, 0u}};
  multiply_add<Float16>(X[0], step, corners(XT).word[0], 0u);
}

// On the diagonal: what `invert_square` asks for of -L and its transposed, and (q̂ k̂ᵀ ∘ D) as an operand.
INLINE void weigh_own(Shared &s, const Fold &f, const Square &kk, const Square &qk, Square &N, Square &NT,
                      Words<16> &weights) {
  Square P;
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const int i = n / 2 % 2, column = f.at(16 * f.warp + f.column(n));
    const bool left = n / 4 < i, above = n / 4 > i, lower = !above && (left || f.row >= f.two + n % 2);
    const double between = s.G[f.at(f.token(i))] - s.G[column];
    const float D = decayed(lower ? between : -between) * s.of_keys[f.key(16 * f.warp + f.column(n))];
    const float x = -kk[n / 4][n % 4] * D * f.of_key[i];
    if (!left && !above) N[n / 4][n % 4] = x * f.beta[i];
    if (!left) NT[n / 4][n % 4] = x * s.beta[column];
    P[n / 4][n % 4] = lower ? qk[n / 4][n % 4] * D * f.of_query[i] : 0.0f;
  }
  weights = operand<Float16>(P);
}

// To the left of it: -L and (q̂ k̂ᵀ ∘ D) of the block row's blocks, as operands.
INLINE void weigh_left(Shared &s, const Fold &f, int keys, Words<16> (&lower)[FOLDERS - 1],
                       Words<16> (&weights)[FOLDERS - 1]) {
  const double reached = f.warp ? s.G[f.at(16 * f.warp - 1)] : 0.0;
  float of_k[2], of_q[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float D = decayed(s.G[f.at(f.token(i))] - reached);
    of_k[i] = -D * f.of_key[i] * f.beta[i];
    of_q[i] = D * f.of_query[i];
  }
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l++) {
    if (l >= f.warp) continue;
    Square N, P;
    score_left(f, keys, l, N, P);
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const int token = 16 * l + f.column(n), i = n / 2 % 2;
      const float D = s.decay[f.at(token)] * s.of_keys[f.key(token)];
      N[n / 4][n % 4] = N[n / 4][n % 4] * of_k[i] * D;
      P[n / 4][n % 4] = P[n / 4][n % 4] * of_q[i] * D;
    }
    lower[l] = operand<Float16>(N);
    weights[l] = operand<Float16>(P);
  }
}

// k̂ e^(G_C - G) of the block row to where W will be.
INLINE void store_unit_keys(Shared &s, const Fold &f, int keys, int w) {
  float of[2];
#pragma unroll
  for (int i = 0; i < 2; i++) of[i] = f.of_key[i] * decayed(s.G[f.at(CHUNK - 1)] - s.G[f.at(f.token(i))]);
  const int rows = down<K>(place_of_lane<K>(f.lane), f.warp);
#pragma unroll 4
  for (int step = 0; step < K / 16; step++) {
    Words<16> k = load_matrices<false>(keys + right(rows, step));
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float first = widened(number<TX>(k, 2 * i)), second = widened(number<TX>(k, 2 * i + 1));
      k.word[i] = pair_of<Float16>(first * of[i % 2], second * of[i % 2]);
    }
    store_matrices<false>(w + right(rows, step), k);
  }
}

// The block row's part of T below the diagonal, to where the others find it; they meet twice.
INLINE void invert_below(const Fold &f, const Words<16> &own, const Words<16> (&lower)[FOLDERS - 1]) {
  Square left[FOLDERS - 1];
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l++) {
    if (l >= f.warp) continue;
    clear(left[l]);
    multiply_add<Float16>(left[l], own, as_right(lower[l]));
    if (f.warp == 2) store_square(f.lower() + l * SQUARE_BYTES, f.lane, lower[l]);
  }
  Words<16> beside;  // of a pair of blocks
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l += 2) {
    if (f.warp != l + 1) continue;
    Square T;
    clear(T);
    multiply_add<Float16>(T, operand<Float16>(left[l]), load_right(f.inverse() + square_at(l, l), f.lane));
    beside = operand<Float16>(T);
    store_square(f.inverse() + square_at(l + 1, l), f.lane, beside);
  }
  meet_team(f.team);
  if (f.warp >= 2) {
    Words<16> a[2];
#pragma unroll
    for (int l = 0; l < 2; l++) {
      if (f.warp == 3) multiply_add<Float16>(left[l], beside, load_right(f.lower() + l * SQUARE_BYTES, f.lane));
      a[l] = operand<Float16>(left[l]);
    }
    Square T[2];
    clear(T[0]), clear(T[1]);
    multiply_add<Float16>(T[0], a[0], load_right(f.inverse() + square_at(0, 0), f.lane));
    multiply_add<Float16>(T[0], a[1], load_right(f.inverse() + square_at(1, 0), f.lane));
    multiply_add<Float16>(T[1], a[1], load_right(f.inverse() + square_at(1, 1), f.lane));
#pragma unroll
    for (int l = 0; l < 2; l++) store_square(f.inverse() + square_at(f.warp, l), f.lane, operand<Float16>(T[l]));
  }
  meet_team(f.team);
}

// The block row of B.
INLINE void store_b(const Arguments &a, Shared &s, const Fold &f, const Words<16> (&weights)[FOLDERS - 1],
                    const Words<16> &own, int b) {
#pragma unroll
  for (int j = 0; j < FOLDERS; j++) {
    if (j > f.warp) continue;
    Square B;
    clear(B);
#pragma unroll
    for (int l = j; l < FOLDERS - 1; l++)
      if (l < f.warp) multiply_add<Float16>(B, weights[l], load_right(f.inverse() + square_at(l, j), f.lane));
    multiply_add<Float16>(B, own, load_right(f.inverse() + square_at(f.warp, j), f.lane));
#pragma unroll
    for (int n = 0; n < 8; n++) B[n / 4][n % 4] *= a.scale * s.beta[f.at(16 * j + f.column(n))];
    store_square(b + square_at(f.warp, j), f.lane, operand<TX>(B));
  }
}

// A quarter of W's columns, over k̂ of the same columns, which nobody else reads.
INLINE void store_w(Shared &s, const Fold &f, int w) {
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
    const float above = s.beta[f.at(16 * j + f.row)], below = s.beta[f.at(16 * j + f.row + 8)];
#pragma unroll
    for (int n = 0; n < SQUARES; n++) {
#pragma unroll
      for (int i = 0; i < 8; i++) W[j][n][i / 4][i % 4] *= i / 2 % 2 ? below : above;
      store_matrices<false>(w + down<K>(right(rows, f.warp * SQUARES + n), j), operand<TX>(W[j][n]));
    }
  }
}

// What scales the products of the scan.
INLINE void store_factors(const Arguments &a, Shared &s, const Fold &f, int chunk) {
  const int at = factors_at(chunk);
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float decay = decayed(s.G[f.at(f.token(i))]);
    if (f.two == 0) put<4>(at + 4 * f.token(i), Words<4>{{as_bits(decay * f.of_key[i])}});
    if (f.two == 2) put<4>(at + FACTOR_BYTES + 4 * f.token(i), Words<4>{{as_bits(decay * f.of_query[i] * a.scale)}});
  }
  if (f.warp == 0 && f.lane == 0) s.whole[chunk % SLOTS] = decayed(s.G[f.at(CHUNK - 1)]);
}

// g and β wait for their chunk where the last one's G and decays are needed no more.
INLINE void keep_gates(Shared &s, const Fold &f, const GatePair &gates) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    s.G[f.at(2 * f.lane + i)] = gates.g[i];
    s.decay[f.at(2 * f.lane + i)] = gates.beta[i];
  }
}
INLINE GatePair kept_gates(Shared &s, const Fold &f) {
  GatePair gates;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    gates.g[i] = static_cast<float>(s.G[f.at(2 * f.lane + i)]);
    gates.beta[i] = s.decay[f.at(2 * f.lane + i)];
  }
  return gates;
}

// Room for what is folded, once its slot is scanned; and all of the team's next chunk is asked for, k and q to where those
// of an older one were.
INLINE GatePair make_room(const Arguments &a, const Row &row, int chunk, int thread) {
  const int next = chunk + TEAMS;
  GatePair gates = {};
  if (row.has(next)) gates = ask_gates(a, row, next, thread);
  if (chunk >= SLOTS) meet(scanned(chunk), HANDING);
  if (row.has(next)) ask_keys(a, row, next, thread % FOLDING);
  commit_copies();
  return gates;
}

INLINE void fold_chunk(const Arguments &a, Shared &s, const Row &row, int chunk) {
  const int keys = keys_at(chunk), thread = thread_index() + s.zero[0];
  Fold f = fold_of(thread);
  sum_gates(s, f, kept_gates(s, f));
  Words<16> weights[FOLDERS - 1], own_weights, lower[FOLDERS - 1], own;
  {
    Square kk, qk, qq, N, NT, T;
    score_own(f, keys, kk, qk, qq);
    lengths(a, f, kk, f.of_key);
    lengths(a, f, qq, f.of_query);
#pragma unroll
    for (int i = 0; i < 2; i++)
      if (f.two == 0) s.of_keys[f.key(f.token(i))] = f.of_key[i];
    warp_barrier();
    weigh_own(s, f, kk, qk, N, NT, own_weights);
    invert_square(f, N, NT, T);
    own = operand<Float16>(T);
    store_square(f.inverse() + square_at(f.warp, f.warp), f.lane, own);
  }
  meet_team(f.team);  // all lengths and blocks of the diagonal are there
  weigh_left(s, f, keys, lower, weights);
  const GatePair next = make_room(a, row, chunk, thread);
  store_unit_keys(s, f, keys, w_at(chunk));
  store_factors(a, s, f, chunk);
  invert_below(f, own, lower);
  store_b(a, s, f, weights, own_weights, b_at(chunk));
  store_w(s, f, w_at(chunk));
  keep_gates(s, f, next);
}

// The team's chunks of the row.
INLINE void fold_row(const Arguments &a, Shared &s, const Row &row, int team) {
  if (!row.has(team)) return;
  const int thread = thread_index();
  keep_gates(s, fold_of(thread), ask_gates(a, row, team, thread));
  ask_keys(a, row, team, thread % FOLDING);
  commit_copies();
  for (int chunk = team; row.has(chunk); chunk += TEAMS) {
    wait_for_copies<0>();
    meet_team(team);
    fold_chunk(a, s, row, chunk);
    arrive(folded(chunk), HANDING);
  }
}
