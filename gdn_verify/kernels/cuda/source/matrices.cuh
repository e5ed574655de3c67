// How matrices of 16-bit numbers lie in the ring, and what a warp's tensor cores make of them.
//
// A row is words of 16 bytes. Words are exchanged within a row so that eight neighbouring rows have the same column of
// words in different banks: `load_matrices` then meets no bank twice. All is done by squares of 16 × 16 numbers, four
// matrices in the order of an operand a of `multiply_add`: the upper left one, the one below, the two to their right.

// Where word `word` of a row of WIDTH numbers lies, from the matrix's first byte: a multiple of 256.
template <int WIDTH>
INLINE int place(int row, int word) {
  constexpr int WORDS = WIDTH / 8, ROWS = WORDS < 8 ? 8 / WORDS : 1, PERMUTED = WORDS < 8 ? WORDS : 8;
  return row * (WIDTH * 2) + ((word ^ (row / ROWS % PERMUTED)) << 4);
}

// Of the square at the matrix's origin, the place of the row that this lane gives: of an operand a, or as its transposed.
template <int WIDTH>
INLINE int place_of_lane(int lane) {
  return place<WIDTH>(lane % 8 + lane / 8 % 2 * 8, lane / 16);
}
template <int WIDTH>
INLINE int place_of_lane_across(int lane) {
  return place<WIDTH>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// From there to the square so many squares to the right, and down. Four to the right nothing is exchanged otherwise, so
// that it is an offset of an address that there is already.
INLINE int right(int place, int squares) { return (place ^ (squares % 4 << 5)) + (squares / 4 << 7); }
template <int WIDTH>
INLINE int down(int place, int squares) {
  return place + squares * (16 * WIDTH * 2);
}

// An operand of two neighbouring results c.
template <class T>
INLINE Words<16> operand(const float (&left)[4], const float (&right)[4]) {
  return {{pair_of<T>(left[0], left[1]), pair_of<T>(left[2], left[3]), pair_of<T>(right[0], right[1]),
           pair_of<T>(right[2], right[3])}};
}

using Square = float[2][4];  // results of 16 x 16

template <class T>
INLINE Words<16> operand(const Square &c) {
  return operand<T>(c[0], c[1]);
}

INLINE void clear(Square &c) {
#pragma unroll
  for (int i = 0; i < 8; i++) c[i / 4][i % 4] = 0.0f;
}

// c += a b, where b was loaded TRANSPOSED as an operand (by rows of b), or as what it is across (by columns of b).
template <class T>
INLINE void multiply_add(float (&left)[4], float (&right)[4], const Words<16> &a, const Words<16> &b) {
  multiply_add<T>(left, a, b.word[0], b.word[1]);
  multiply_add<T>(right, a, b.word[2], b.word[3]);
}
template <class T>
INLINE void multiply_add(Square &c, const Words<16> &a, const Words<16> &b) {
  multiply_add<T>(c[0], c[1], a, b);
}

// c += a bᵀ, with b as an operand.
template <class T>
INLINE void multiply_add_transposed(Square &c, const Words<16> &a, const Words<16> &b) {
  multiply_add<T>(c[0], a, b.word[0], b.word[2]);
  multiply_add<T>(c[1], a, b.word[1], b.word[3]);
}

// From an operand to what `multiply_add` takes as b: nothing moves through memory.
INLINE Words<16> as_right(const Words<16> &a) {
  Words<16> b;
#pragma unroll
  for (int i = 0; i < 4; i++) b.word[i] = transposed_matrix(a.word[i]);
  return b;
}

// A lower triangle of 4 × 4 squares, one after the other.
constexpr int SQUARE_BYTES = 512, TRIANGLE_BYTES = 10 * SQUARE_BYTES;
INLINE int square_at(int i, int j) { return (i * (i + 1) / 2 + j) * SQUARE_BYTES; }
INLINE Words<16> load_right(int square, int lane) { return load_matrices<true>(square + place_of_lane<16>(lane)); }
INLINE void store_square(int square, int lane, const Words<16> &a) {
  store_matrices<false>(square + place_of_lane<16>(lane), a);
}
