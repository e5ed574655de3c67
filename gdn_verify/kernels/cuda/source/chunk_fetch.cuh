// One warp fetches k, q and the gates of a chunk, as soon as an older one has made room for it.

constexpr double PER_LOG_2 = 1.4426950408889634;

INLINE float decayed(double exponent) {
  const float x = static_cast<float>(exponent);
  return power_of_2(x < 0.0f ? x : 0.0f);
}

// g and β of a lane's two tokens, 2 lane and the one after it.
struct GatePair {
  float g[2], beta[2];
};

INLINE GatePair ask_gates(const Arguments &a, const Row &row, int chunk, int lane) {
  GatePair gates;
  const int first = 2 * lane, last = row.last(chunk);
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

// Asks for k and q. Behind the row's end the last token is read again: with β = 0 it adds nothing.
INLINE void ask_keys(const Arguments &a, const Row &row, int chunk, int lane) {
  constexpr int WORDS = K / 8, ROWS = 32 / WORDS, ALIKE = 8 / ROWS;  // so many turns, and rows are permuted alike again
  const int first = lane / WORDS, word = lane % WORDS, last = row.last(chunk), at = keys_at(chunk);
  const TX *k = static_cast<const TX *>(a.k) + row.token(chunk) * a.stride_k + row.key_head() * K + word * 8;
  const TX *q = static_cast<const TX *>(a.q) + row.token(chunk) * a.stride_q + row.key_head() * K + word * 8;
  int places[ALIKE];
#pragma unroll
  for (int n = 0; n < ALIKE; n++) places[n] = at + place<K>(first + n * ROWS, word);
#pragma unroll 1
  for (int eight = 0; eight < CHUNK / 8; eight++)
#pragma unroll
    for (int n = 0; n < ALIKE; n++) {
      const int token = 8 * eight + n * ROWS + first;
      const int64 there = token < last ? token : last;
      copy_async<16>(places[n] + eight * (8 * K * 2), k + there * a.stride_k);
      copy_async<16>(places[n] + eight * (8 * K * 2) + KEY_BYTES, q + there * a.stride_q);
    }
}

// G is in float64, as differences of large sums are all noise in float32, and in units of log 2.
INLINE void sum_gates(ChunkGates &s, const GatePair &gates, int lane) {
  const double first = gates.g[0] * PER_LOG_2, both = first + gates.g[1] * PER_LOG_2;
  double sum = both;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const double below = of_lane(sum, lane - step);
    sum += lane >= step ? below : 0.0;
  }
  const double before = of_lane(sum, lane - 1), whole = of_lane(sum, 31);
  const double G[2] = {first + (lane ? before : 0.0), sum};
  double reached[FOLDERS];  // by the last token before a block of 16
  reached[0] = 0.0;
#pragma unroll
  for (int block = 1; block < FOLDERS; block++) reached[block] = of_lane(sum, 8 * block - 1);
  const double own = lane < 8 ? 0.0 : lane < 16 ? reached[1] : lane < 24 ? reached[2] : reached[3];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int token = 2 * lane + i;
    s.G[token] = G[i];
    s.beta[token] = gates.beta[i];
    s.from_start[token] = decayed(G[i]);
    s.from_block[token] = decayed(G[i] - own);
    s.to_end[token] = decayed(whole - G[i]);
#pragma unroll
    for (int block = 1; block < FOLDERS; block++)
      if (lane < 8 * block) s.to_block[to_block(block) + token] = decayed(reached[block] - G[i]);
  }
}

INLINE void fetch_row(const Arguments &a, Shared &s, const Row &row) {
  const int lane = thread_index() % 32;
  for (int chunk = 0; row.has(chunk); chunk++) {
    const GatePair gates = ask_gates(a, row, chunk, lane);
    if (chunk >= STAGES) meet(emptied(chunk), EMPTYING);
    ask_keys(a, row, chunk, lane);
    commit_copies();
    sum_gates(s.gates[chunk % STAGES], gates, lane);
    wait_for_copies<0>();
    arrive(fetched(chunk), FETCHING);
  }
}
