// What a block of a chunked prefill is: one value head of one row, SPLITS of them where V is cut, chunk after chunk.
//
// Four warps fold a chunk, which needs no state, while the others, SCANNERS of them, scan the one before it (see
// `chunk_delta.cu`). All that they hand on is in the ring: k and q of three chunks, what is folded of two.

constexpr int CHUNK = 64;
constexpr int FOLDERS = 4;
constexpr int THREADS = 32 * (FOLDERS + SCANNERS);
constexpr int FOLDING = 32 * FOLDERS;
constexpr int COLUMNS = 16 * TILES;  // of V, a warp
static_assert(V == SPLITS * SCANNERS * COLUMNS, "warps have all of V");

constexpr int STAGES = 3;
constexpr int KEY_BYTES = CHUNK * K * 2;
constexpr int VALUE_BYTES = CHUNK * COLUMNS * 2;
constexpr int FACTOR_BYTES = CHUNK * 4;

// The ring, from its first byte on.
constexpr int KEYS_AT = 0;                                                // k and then q of a chunk
constexpr int W_AT = KEYS_AT + STAGES * 2 * KEY_BYTES;                    // before it is W, k̂ e^(G_C - G)
constexpr int VALUES_AT = W_AT + 2 * KEY_BYTES;                           // v, and then o, of a warp
constexpr int B_AT = VALUES_AT + 2 * SCANNERS * VALUE_BYTES;
constexpr int INVERSE_AT = B_AT + 2 * TRIANGLE_BYTES;                     // of the chunk that is being folded
constexpr int LOWER_AT = INVERSE_AT + TRIANGLE_BYTES;                     // two squares of -L
constexpr int FACTORS_AT = LOWER_AT + 2 * SQUARE_BYTES;                   // of k, and then of q
constexpr int RING_BYTES = FACTORS_AT + 2 * 2 * FACTOR_BYTES;
static_assert(RING_BYTES == RING, "the launch asks for as much");

INLINE int keys_at(int chunk) { return KEYS_AT + chunk % STAGES * (2 * KEY_BYTES); }
INLINE int w_at(int chunk) { return W_AT + chunk % 2 * KEY_BYTES; }
INLINE int b_at(int chunk) { return B_AT + chunk % 2 * TRIANGLE_BYTES; }
INLINE int factors_at(int chunk) { return FACTORS_AT + chunk % 2 * (2 * FACTOR_BYTES); }

// Barriers: of the warps that fold, and for every second chunk that it is folded, and that it is scanned.
constexpr int FOLD = 1, FOLDED = 2, SCANNED = 4;

// A table's entry; tables are int32 or int64.
INLINE int64 entry(const void *table, int64 at, bool wide) {
  return wide ? static_cast<const int64 *>(table)[at] : static_cast<const int *>(table)[at];
}

INLINE bool is_slot(const Arguments &a, int64 id) { return id >= 0 && id < a.num_slots && id != a.pad; }

struct Row {
  int64 own, read, first;
  int length, head, split;
  bool live, known;

  INLINE_MEMBER bool has(int chunk) const { return chunk * CHUNK < length; }
  INLINE_MEMBER int key_head() const { return head / RATIO; }
  INLINE_MEMBER int64 token(int chunk) const { return first + chunk * CHUNK; }  // a chunk's first
  // Its last, from there. Behind it the last is read again: with β = 0 it adds nothing.
  INLINE_MEMBER int last(int chunk) const {
    const int left = length - chunk * CHUNK;
    return (left < CHUNK ? left : CHUNK) - 1;
  }
  INLINE_MEMBER int column(int warp) const { return head * V + (split * SCANNERS + warp) * COLUMNS; }
};

struct Shared {
  Array<Row, 1> row;  // for all registers that it would take
  Array<double, FOLDERS * CHUNK> G;  // of each warp that folds, the same: so they need not meet for them
  Array<float, FOLDERS * CHUNK> beta;
  Array<float, FOLDERS * CHUNK> decay;  // from a token to the last one before the warp's own
  Array<float, CHUNK> of_keys;          // 1 / ‖k‖
  Array<float, 2> whole;                // e^(G_C) of what is folded
};

INLINE Row row_of(const Arguments &a) {
  Row row;
  const int64 n = block_x() / SPLITS;
  row.split = block_x() % SPLITS;
  row.head = block_y();
  row.first = entry(a.query_start_loc, n, a.wide_starts);
  row.length = static_cast<int>(entry(a.query_start_loc, n + 1, a.wide_starts) - row.first);
  row.own = entry(a.state_indices, n * a.stride_index, a.wide_indices);
  row.read = a.read_indices ? entry(a.read_indices, n * a.stride_read, a.wide_reads) : row.own;
  row.known = !a.has_initial_state || static_cast<const unsigned char *>(a.has_initial_state)[n];
  row.live = row.length > 0 && is_slot(a, row.own) && (is_slot(a, row.read) || !row.known);
  return row;
}

// Zeros for tokens [first, stop) in steps, in the block's part of V.
INLINE void clear_outputs(const Arguments &a, const Row &row, int64 first, int64 stop, int64 step) {
  constexpr int PART = V / SPLITS;
  for (int64 t = first; t < stop; t += step)
    for (int i = thread_index(); i < PART; i += THREADS)
      static_cast<TOut *>(a.out)[t * a.stride_out + row.head * V + row.split * PART + i] = TOut{};
}
