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

INLINE GatePair ask_gates(const Arguments &a, const Row &row, int chunk) {
  GatePair gates;
  const int first = thread_index() % 32 * 2, last = row.last(chunk);
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

// Asks for k and q of a chunk.
INLINE void ask_keys(const Arguments &a, const Row &row, int chunk) {
  constexpr int WORDS = K / 8, ROWS = FOLDING / WORDS;
  const int first = thread_index() / WORDS, word = thread_index() % WORDS, last = row.last(chunk);
  const int at = keys_at(chunk), stride_k = static_cast<int>(a.stride_k), stride_q = static_cast<int>(a.stride_q);
  const TX *k = static_cast<const TX *>(a.k) + row.token(chunk) * a.stride_k + row.key_head() * K + word * 8;
  const TX *q = static_cast<const TX *>(a.q) + row.token(chunk) * a.stride_q + row.key_head() * K + word * 8;
#pragma unroll
  for (int n = 0; n < CHUNK / ROWS; n++) {
    const int token = first + n * ROWS, there = token < last ? token : last;
    copy_async<16>(at + place<K>(token, word), k + there * stride_k);
    copy_async<16>(at + KEY_BYTES + place<K>(token, word), q + there * stride_q);
  }
}

INLINE float decayed(double exponent) {
  const float x = static_cast<float>(exponent);
  return power_of_2(x < 0.0f ? x : 0.0f);
}

// What a warp knows of its block row's gates; its lane's rows are `row` and row + 8.
struct Fold {
  int warp, lane, row, two;
  double G[2];       // of the lane's rows
  float beta[2];
  float of_key[2], of_query[2];  // 1 / ‖k‖ and 1 / ‖q‖

  INLINE_MEMBER int at(int i) const { return warp * CHUNK + i; }  // in the warp's part of an array
  INLINE_MEMBER int token(int i) const { return 16 * warp + row + 8 * i; }
  INLINE_MEMBER int column(int i) const { return two + i / 4 * 8 + i % 2; }  // of number i of a square
};

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
    f.G[i] = s.G[f.at(f.token(i))];
    f.beta[i] = s.beta[f.at(f.token(i))];
  }
}

// k kᵀ and q kᵀ of the block row, as k and q are given; `own` are the squares on the diagonal.
struct Scores {
  Square kk[FOLDERS - 1], qk[FOLDERS - 1], own_kk, own_qk;
};

INLINE void score(const Fold &f, int keys, Scores &m, Square &own_qq) {
  const int as_rows = place_of_lane<K>(), as_columns = place_of_lane_across<K>(), queries = keys + KEY_BYTES;
  clear(m.own_kk), clear(m.own_qk), clear(own_qq);
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l++) clear(m.kk[l]), clear(m.qk[l]);
#pragma unroll 2
  for (int step = 0; step < K / 16; step++) {
    const int rows = right(as_rows, step), columns = right(as_columns, step);
    const Words<16> k = load_matrices<false>(keys + down<K>(rows, f.warp));
    const Words<16> q = load_matrices<false>(queries + down<K>(rows, f.warp));
#pragma unroll
    for (int l = 0; l < FOLDERS - 1; l++) {
      if (l >= f.warp) continue;
      const Words<16> other = load_matrices<false>(keys + down<K>(columns, l));
      multiply_add<TX>(m.kk[l], k, other);
      multiply_add<TX>(m.qk[l], q, other);
    }
    multiply_add_transposed<TX>(m.own_kk, k, k);
    multiply_add_transposed<TX>(m.own_qk, q, k);
    multiply_add_transposed<TX>(own_qq, q, q);
  }
}

// 1 / ‖x‖ of the lane's rows, from x xᵀ of the block: ‖x‖² of row r is in lane 4 r + r / 2.
INLINE void lengths(const Arguments &a, const Fold &f, const Square &xx, float (&of)[2]) {
  const bool odd = f.row % 2;
  const int holder = 4 * f.row + f.row / 2;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float squares = of_lane(odd ? xx[i][2 * i + 1] : xx[i][2 * i], holder);
    of[i] = a.qk_norm ? inverse_root(squares + a.eps) : 1.0f;
  }
}

// (I - N)⁻¹ of 16 tokens, with N and Nᵀ strictly lower and upper; both are kept, as results are operands without moving
// on the left, and transposed on the right.
INLINE void invert_square(const Fold &f, const Square &N, const Square &NT, Square &X) {
  Square XT;
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const int i = f.row + n / 2 % 2 * 8, j = f.column(n);
    const float one = i == j ? 1.0f : 0.0f;
    X[n / 4][n % 4] = i / 2 == j / 2 && i > j ? N[n / 4][n % 4] : one;
    XT[n / 4][n % 4] = i / 2 == j / 2 && i < j ? NT[n / 4][n % 4] : one;
  }
#pragma unroll
  for (int level = 1; level < 4; level++) {
    Square below, above, left, leftT;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const int i = f.row + n / 2 % 2 * 8, j = f.column(n);
      const bool pair = i >> (level + 1) == j >> (level + 1);
      below[n / 4][n % 4] = pair && i >> level > j >> level ? N[n / 4][n % 4] : 0.0f;
      above[n / 4][n % 4] = pair && i >> level < j >> level ? NT[n / 4][n % 4] : 0.0f;
    }
    const Words<16> x = operand<Float16>(X), xT = operand<Float16>(XT);
    clear(left), clear(leftT);
    multiply_add_transposed<Float16>(left, x, operand<Float16>(above));
    multiply_add_transposed<Float16>(leftT, xT, operand<Float16>(below));
    multiply_add_transposed<Float16>(X, operand<Float16>(left), xT);
    multiply_add_transposed<Float16>(XT, operand<Float16>(leftT), x);
  }
}

// The block on the diagonal of T, and of (q̂ k̂ᵀ ∘ D) as an operand.
INLINE void fold_own(Shared &s, const Fold &f, const Scores &m, Square &T, Words<16> &weights) {
  Square N, NT, P;
  float of_key[4], beta[4];
  double G[4];
#pragma unroll
  for (int c = 0; c < 4; c++) {
    const int token = 16 * f.warp + f.two + c / 2 * 8 + c % 2;
    G[c] = s.G[f.at(token)];
    beta[c] = s.beta[f.at(token)];
    of_key[c] = s.of_keys[token];
  }
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const int i = n / 2 % 2, c = n / 4 * 2 + n % 2;
    const bool lower = f.row + 8 * i >= f.column(n);
    const double between = f.G[i] - G[c];
    const float D = decayed(lower ? between : -between) * of_key[c];
    const float kk = m.own_kk[n / 4][n % 4] * D * f.of_key[i];
    N[n / 4][n % 4] = -kk * f.beta[i];
    NT[n / 4][n % 4] = -kk * beta[c];
    P[n / 4][n % 4] = lower ? m.own_qk[n / 4][n % 4] * D * f.of_query[i] : 0.0f;
  }
  weights = operand<Float16>(P);
  invert_square(f, N, NT, T);
}

// Below the diagonal: -L and (q̂ k̂ᵀ ∘ D), as operands.
INLINE void fold_below(Shared &s, const Fold &f, const Scores &m, Words<16> (&lower)[FOLDERS - 1],
                       Words<16> (&weights)[FOLDERS]) {
  const double reached = f.warp ? s.G[f.at(16 * f.warp - 1)] : 0.0;
  float of_k[2], of_q[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float D = decayed(f.G[i] - reached);
    of_k[i] = -D * f.of_key[i] * f.beta[i];
    of_q[i] = D * f.of_query[i];
  }
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l++) {
    if (l >= f.warp) continue;
    Square N, P;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const int token = 16 * l + f.column(n), i = n / 2 % 2;
      const float D = s.decay[f.at(token)] * s.of_keys[token];
      N[n / 4][n % 4] = m.kk[l][n / 4][n % 4] * of_k[i] * D;
      P[n / 4][n % 4] = m.qk[l][n / 4][n % 4] * of_q[i] * D;
    }
    lower[l] = operand<Float16>(N);
    weights[l] = operand<Float16>(P);
  }
}

// k̂ e^(G_C - G) of the block row to where W will be.
INLINE void store_unit_keys(Shared &s, const Fold &f, int keys, int w) {
  float of[2];
#pragma unroll
  for (int i = 0; i < 2; i++) of[i] = f.of_key[i] * decayed(s.G[f.at(CHUNK - 1)] - f.G[i]);
  const int rows = down<K>(place_of_lane<K>(), f.warp);
#pragma unroll
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
    if (f.warp == 2) store_square(LOWER_AT + l * SQUARE_BYTES, lower[l]);
  }
  Words<16> beside;  // of a pair of blocks
#pragma unroll
  for (int l = 0; l < FOLDERS - 1; l += 2) {
    if (f.warp != l + 1) continue;
    Square T;
    clear(T);
    multiply_add<Float16>(T, operand<Float16>(left[l]), load_right(INVERSE_AT + square_at(l, l)));
    beside = operand<Float16>(T);
    store_square(INVERSE_AT + square_at(l + 1, l), beside);
  }
  meet(FOLD, FOLDING);
  if (f.warp >= 2) {
    Words<16> a[2];
#pragma unroll
    for (int l = 0; l < 2; l++) {
      if (f.warp == 3) multiply_add<Float16>(left[l], beside, load_right(LOWER_AT + l * SQUARE_BYTES));
      a[l] = operand<Float16>(left[l]);
    }
    Square T[2];
    clear(T[0]), clear(T[1]);
    multiply_add<Float16>(T[0], a[0], load_right(INVERSE_AT + square_at(0, 0)));
    multiply_add<Float16>(T[0], a[1], load_right(INVERSE_AT + square_at(1, 0)));
    multiply_add<Float16>(T[1], a[1], load_right(INVERSE_AT + square_at(1, 1)));
#pragma unroll
    for (int l = 0; l < 2; l++) store_square(INVERSE_AT + square_at(f.warp, l), operand<Float16>(T[l]));
  }
  meet(FOLD, FOLDING);
}

// The block row of B.
INLINE void store_b(const Arguments &a, Shared &s, const Fold &f, const Words<16> (&weights)[FOLDERS],
                    const Words<16> &own, int b) {
#pragma unroll
  for (int j = 0; j < FOLDERS; j++) {
    if (j > f.warp) continue;
    Square B;
    clear(B);
#pragma unroll
    for (int l = j; l < FOLDERS; l++)
      if (l < f.warp) multiply_add<Float16>(B, weights[l], load_right(INVERSE_AT + square_at(l, j)));
    multiply_add<Float16>(B, own, load_right(INVERSE_AT + square_at(f.warp, j)));
#pragma unroll
    for (int n = 0; n < 8; n++) B[n / 4][n % 4] *= a.scale * s.beta[f.at(16 * j + f.column(n))];
    store_square(b + square_at(f.warp, j), operand<TX>(B));
  }
}

// A quarter of W's columns, over k̂ of the same columns, which nobody else reads.
INLINE void store_w(Shared &s, const Fold &f, int w) {
  constexpr int SQUARES = K / 16 / FOLDERS;
  const int rows = place_of_lane<K>(), across = place_of_lane_across<16>();
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
      const Words<16> T = load_matrices<true>(INVERSE_AT + square_at(i, j) + across);
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
    const float decay = decayed(f.G[i]);
    if (f.two == 0) put<4>(at + 4 * f.token(i), Words<4>{{as_bits(decay * f.of_key[i])}});
    if (f.two == 2) put<4>(at + FACTOR_BYTES + 4 * f.token(i), Words<4>{{as_bits(decay * f.of_query[i] * a.scale)}});
  }
  if (f.warp == 0 && f.lane == 0) s.whole[chunk % 2] = decayed(s.G[CHUNK - 1]);
}

INLINE void fold_chunk(const Arguments &a, Shared &s, const GatePair &gates, int chunk) {
  const int keys = keys_at(chunk), thread = thread_index();
  Fold f = {thread / 32, thread % 32, thread % 32 / 4, thread % 4 * 2};
  sum_gates(s, f, gates);
  Scores m;
  Square own_qq;
  score(f, keys, m, own_qq);
  lengths(a, f, m.own_kk, f.of_key);
  lengths(a, f, own_qq, f.of_query);
#pragma unroll
  for (int i = 0; i < 2; i++)
    if (f.two == 0) s.of_keys[f.token(i)] = f.of_key[i];
  warp_barrier();

  Words<16> weights[FOLDERS], own_weights, lower[FOLDERS - 1];
  Square T;
  fold_own(s, f, m, T, own_weights);
  const Words<16> own = operand<Float16>(T);
  store_square(INVERSE_AT + square_at(f.warp, f.warp), own);
  meet(FOLD, FOLDING);  // all lengths and diagonals are there
  fold_below(s, f, m, lower, weights);
  store_unit_keys(s, f, keys, w_at(chunk));
  store_factors(a, s, f, chunk);
  invert_below(f, own, lower);
  store_b(a, s, f, weights, own_weights, b_at(chunk));
  store_w(s, f, w_at(chunk));
}

// All chunks of the row, each as soon as there is room for it.
INLINE void fold_row(const Arguments &a, Shared &s, const Row &row) {
  GatePair gates = ask_gates(a, row, 0);
  ask_keys(a, row, 0);
  commit_copies();
  for (int chunk = 0; row.has(chunk); chunk++) {
    if (chunk >= 2) meet(SCANNED + chunk % 2, THREADS);  // the one before the last
    const GatePair mine = gates;
    if (row.has(chunk + 1)) {
      gates = ask_gates(a, row, chunk + 1);
      ask_keys(a, row, chunk + 1);
    }
    commit_copies();
    wait_for_copies<1>();
    meet(FOLD, FOLDING);
    fold_chunk(a, s, mine, chunk);
    arrive(FOLDED + chunk % 2, THREADS);
  }
}
