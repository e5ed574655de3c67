// How a block's threads share its rows of the state.
//
// A block has VB rows of V of each of its HEADS value heads. `LANES` neighbouring threads share a row, each with KEYS of
// its K numbers, VEC of them at one address; the THREADS / LANES groups take rows in turn, PASSES turns a head. With the
// state as [K, V] ("KV") the VEC numbers at one address are of VEC rows, so a group takes ROWS = VEC rows at a time.

constexpr int THREADS = 32 * WARPS;
INLINE int own_thread() { return below<THREADS>(thread_index()); }
constexpr int divided_up(int x, int y) { return (x + y - 1) / y; }

constexpr int GROUPS = THREADS / LANES;
constexpr int ROWS = STATE_KV ? VEC : 1;
constexpr int CHUNKS = STATE_KV ? divided_up(K, LANES) : divided_up(K, LANES * VEC);
constexpr int KEYS = STATE_KV ? CHUNKS : CHUNKS * VEC;
constexpr int VB = divided_up(divided_up(V, SPLITS), ROWS) * ROWS;
constexpr int PASSES = divided_up(VB, GROUPS * ROWS);
constexpr int BYTES = VEC * sizeof(TState);
constexpr bool EVEN_K = LANES * KEYS == K;
constexpr bool EVEN_V = PASSES * GROUPS * ROWS * SPLITS == V;

using Word = Words<BYTES>;
struct Tile {
  Word word[CHUNKS];
};

// Where a thread stands among its block's rows.
struct Place {
  int group, lane, split;

  INLINE_MEMBER int row(int pass) const { return (pass * GROUPS + group) * ROWS; }  // among the block's VB
  INLINE_MEMBER int key(int chunk) const { return STATE_KV ? chunk * LANES + lane : (chunk * LANES + lane) * VEC; }
  INLINE_MEMBER int number(int key_of_thread) const {  // which of K a thread's number is
    return STATE_KV ? key(key_of_thread) : key(key_of_thread / VEC) + key_of_thread % VEC;
  }
  INLINE_MEMBER bool inside(int pass) const { return EVEN_V || (row(pass) < VB && split * VB + row(pass) < V); }
  INLINE_MEMBER bool holds(int chunk) const { return EVEN_K || key(chunk) < K; }
  // Of what this thread has of a head's state, in numbers: where it begins, and how far from there the rest is. The
  // second is known at compile time, so that an address is made once.
  INLINE_MEMBER int first() const {
    const int v = split * VB + row(0);
    return STATE_KV ? lane * V + v : v * K + key(0);
  }
  static INLINE_MEMBER int beyond(int pass, int chunk) {
    const int rows = pass * GROUPS * ROWS;
    return STATE_KV ? chunk * LANES * V + rows : rows * K + chunk * LANES * VEC;
  }
};

// From what the thread has of a head's state.
INLINE Tile load_tile(const TState *own, const Place &place, int pass) {
  Tile tile;
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
    tile.word[c] = place.inside(pass) && place.holds(c) ? load_words<BYTES>(own + Place::beyond(pass, c)) : zeros<BYTES>();
  return tile;
}

// A thread's KEYS numbers of q̂ and k̂, and k̂·q̂.
struct Keys {
  float q[KEYS], k[KEYS], kq;
};

// From the conv's outputs, q and then k from `first` on: normalised (equation 3), zeros where there is no channel.
template <int N>
INLINE Keys keys_of(Array<float, N> &conv, int first, const Place &place, float scale, float eps) {
  Keys keys;
  float qq = 0.0f, kk = 0.0f, kq = 0.0f;
#pragma unroll
  for (int i = 0; i < KEYS; i++) {
    const bool there = EVEN_K || place.number(i) < K;
    keys.q[i] = there ? conv[first + place.number(i)] : 0.0f;
    keys.k[i] = there ? conv[first + K + place.number(i)] : 0.0f;
    qq = fused(keys.q[i], keys.q[i], qq);
    kk = fused(keys.k[i], keys.k[i], kk);
    kq = fused(keys.q[i], keys.k[i], kq);
  }
  const float of_q = inverse_root(sum_over_lanes<LANES>(qq) + eps) * scale;
  const float of_k = inverse_root(sum_over_lanes<LANES>(kk) + eps);
  keys.kq = sum_over_lanes<LANES>(kq) * of_q * of_k;
#pragma unroll
  for (int i = 0; i < KEYS; i++) {
    keys.q[i] *= of_q;
    keys.k[i] *= of_k;
  }
  return keys;
}

// One token on ROWS rows of the state, S in `h` [CHUNKS][VEC], v and o [ROWS] (equation 4). Both sums over K run on the
// state as it was, side by side, so that a row's sums need one exchange among lanes and not two:
//
//     S k̂, S q̂  →  u = β (v - e^g S k̂),   o = e^g S q̂ + u (k̂·q̂),   S ← e^g S + u k̂ᵀ
//
// q and k are normalised first: S k overflows with legal numbers where S k̂ does not.
INLINE void advance(float (&h)[CHUNKS][VEC], const Keys &keys, const float (&v)[ROWS], Gates gates, float (&o)[ROWS]) {
  float sk[ROWS] = {}, sq[ROWS] = {}, u[ROWS];
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      const int row = STATE_KV ? i : 0, key = STATE_KV ? c : c * VEC + i;
      sk[row] = fused(h[c][i], keys.k[key], sk[row]);
      sq[row] = fused(h[c][i], keys.q[key], sq[row]);
    }
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    u[row] = gates.beta * (v[row] - gates.decay * sum_over_lanes<LANES>(sk[row]));
    o[row] = fused(u[row], keys.kq, gates.decay * sum_over_lanes<LANES>(sq[row]));
  }
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      const int row = STATE_KV ? i : 0, key = STATE_KV ? c : c * VEC + i;
      h[c][i] = fused(u[row], keys.k[key], h[c][i] * gates.decay);
    }
}

INLINE void widen(float (&h)[CHUNKS][VEC], const Tile &tile) {
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
#pragma unroll
    for (int i = 0; i < VEC; i++) h[c][i] = widened(number<TState>(tile.word[c], i));
}

INLINE void store_tile(TState *own, const float (&h)[CHUNKS][VEC], const Place &place, int pass) {
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
    if (place.inside(pass) && place.holds(c)) store_words(own + Place::beyond(pass, c), vector_of<TState>(h[c]));
}
