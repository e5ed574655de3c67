// The delta rule over plain rows of any length, with q and k normalised within, in one launch.
//
// A block has a value head of a row, or one of SPLITS parts of its V, and goes through the row in chunks of 64 tokens
// (`chunk_block.cuh`). Teams of four warps fold chunks as soon as k and q have come (`chunk_fold.cuh`); the others have the
// state in their registers, and scan what is folded (`chunk_scan.cuh`). So the long chain of a chunk's own steps runs
// beside the scan of chunks before it, and each multiprocessor's four schedulers have warps of either kind.

#include "matrices.cuh"
#include "chunk_block.cuh"
#include "chunk_fetch.cuh"
#include "chunk_fold.cuh"
#include "chunk_scan.cuh"

KERNEL(gdn_cuda_chunk_delta) {
  SHARED(Shared, s);
  const Row row = row_of(a);
  if (a.zero_pads) {  // tokens beyond the last row are dealt out to the rows
    const int64 end = entry(a.query_start_loc, a.num_rows, a.wide_starts);
    clear_outputs(a, row, end + block_x() / SPLITS, a.num_tokens, a.num_rows);
    if (!row.live) clear_outputs(a, row, row.first, row.first + row.length, 1);
  }
  if (!row.live) return;
  if (thread_index() == 0) s.row[0] = row, s.zero[0] = 0;
  block_barrier();
  const int warp = thread_index() / 32;
  if (warp < TEAMS * FOLDERS) {
    if constexpr (UNEVEN && TEAMS == 1) take_registers<208>();
    if constexpr (UNEVEN && TEAMS == 2 && TILES == 1) take_registers<144>();
    if constexpr (UNEVEN && TEAMS == 2 && TILES == 2) leave_registers<112>();
    fold_row(a, s, s.row[0], warp / FOLDERS);
  } else if (warp < FETCHER) {
    if constexpr (UNEVEN) take_registers<TILES == 1 ? 184 : TEAMS == 1 ? 256 : 248>();
    scan_row(a, s, s.row[0]);
  } else {
    if constexpr (UNEVEN) leave_registers<40>();
    if (warp == FETCHER) fetch_row(a, s, s.row[0]);
  }
}
