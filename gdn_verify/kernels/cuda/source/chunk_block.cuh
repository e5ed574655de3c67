// What a block of a chunked prefill is: one value head of one row, SPLITS of them where V is cut, chunk after chunk.
//
// TEAMS of four warps fold chunks, which needs no state, every team another one, while SCANNERS warps scan one after the
// other, and one more fetches what both read (see `chunk_delta.cu`). All that they hand on is in shared memory: k, q and
// the gates of STAGES chunks, what is folded of SLOTS.

constexpr int CHUNK = 64;
constexpr int FOLDERS = 4;  // warps of a team
constexpr int FOLDING = 32 * FOLDERS, SCANNING = 32 * SCANNERS;
// Warps of each kind in groups of four share registers out anew.
constexpr bool UNEVEN = SCANNERS == FOLDERS;
constexpr int FETCHER = TEAMS * FOLDERS + SCANNERS;  // a warp, the last or with UNEVEN the first of the last four
constexpr int THREADS = 32 * (FETCHER + (UNEVEN ? 4 : 1));
constexpr int COLUMNS = 16 * TILES;  // of V, a warp
static_assert(V == SPLITS * SCANNERS * COLUMNS, "warps have all of V");

constexpr int SLOTS = 2, STAGES = TEAMS + SLOTS;
static_assert(SLOTS % TEAMS == 0, "a slot is always of the same team");
constexpr int KEY_BYTES = CHUNK * K * 2;
constexpr int VALUE_BYTES = CHUNK * COLUMNS * 2;
constexpr int FACTOR_BYTES = CHUNK * 4;

// The ring, from its first byte on.
constexpr int KEYS_AT = 0;                                          // k and then q of a chunk
constexpr int W_AT = KEYS_AT + STAGES * 2 * KEY_BYTES;              // before it is W, k̂ e^(G_C - G)
constexpr int VALUES_AT = W_AT + SLOTS * KEY_BYTES;                 // v, and then o, of a warp
constexpr int B_AT = VALUES_AT + 2 * SCANNERS * VALUE_BYTES;
constexpr int FACTORS_AT = B_AT + SLOTS * TRIANGLE_BYTES;           // of k, and then of q
constexpr int INVERSE_AT = FACTORS_AT + SLOTS * 2 * FACTOR_BYTES;   // T of a team's chunk, and then what warps hand on
constexpr int INVERSE_BYTES = TRIANGLE_BYTES + 4 * SQUARE_BYTES;
constexpr int RING_BYTES = INVERSE_AT + TEAMS * INVERSE_BYTES;
static_assert(RING_BYTES == RING, "the launch asks for as much");

INLINE int keys_at(int chunk) { return KEYS_AT + chunk % STAGES * (2 * KEY_BYTES); }
INLINE int w_at(int chunk) { return W_AT + chunk % SLOTS * KEY_BYTES; }
INLINE int b_at(int chunk) { return B_AT + chunk % SLOTS * TRIANGLE_BYTES; }
INLINE int factors_at(int chunk) { return FACTORS_AT + chunk % SLOTS * (2 * FACTOR_BYTES); }

// Barriers: of a team; of a slot, that it is folded, and that it is scanned; of a stage, that all has come, and that it
// is scanned.
INLINE void meet_team(int team) { meet(1 + team, FOLDING); }
INLINE int folded(int chunk) { return 1 + TEAMS + chunk % SLOTS; }
INLINE int scanned(int chunk) { return 1 + TEAMS + SLOTS + chunk % SLOTS; }
INLINE int fetched(int chunk) { return 1 + TEAMS + 2 * SLOTS + chunk % STAGES; }
INLINE int emptied(int chunk) { return 1 + TEAMS + 2 * SLOTS + STAGES + chunk % STAGES; }
constexpr int HANDING = FOLDING + SCANNING, FETCHING = 32 + FOLDING, EMPTYING = SCANNING + 32;

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

// The gates of a chunk, by tokens; G_m is that of the last token before a block of 16.
struct ChunkGates {
  Array<double, CHUNK> G;
  Array<float, CHUNK> beta;
  Array<float, CHUNK> from_start, from_block, to_end;    // e^G, e^(G - G_m), e^(G_C - G)
  Array<float, 6 * 16> to_block;                         // e^(G_m - G) of tokens before block 1, 2 and 3
};
INLINE int to_block(int block) { return 8 * block * (block - 1); }

struct Shared {
  Array<int, 1> zero;  // which the compiler does not know: what is made with it is made anew, and takes no registers
  Array<Row, 1> row;   // for all registers that it would take
  Array<ChunkGates, STAGES> gates;
  Array<float, TEAMS * CHUNK> of_keys, of_queries;  // 1 / ‖k‖ and 1 / ‖q‖
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
