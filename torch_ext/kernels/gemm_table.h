#pragma once

#include <cstdint>
#include <vector>

#include "kernels/crossed.h"
#include "kernels/gemm_tile.h"
#include "kernels/isa.h"

namespace tsquant::kernels {

/// One way to compute the tiles of convolutions and linear layers. All rows give the same bits: the sums of unsigned
/// codes times signed weights are exact, and every row follows the one order of float operations in epilogue.h.
struct GemmRow {
  const char* name;
  Isa isa;                ///< what the processor must have
  int64_t step;           ///< products that one lane adds per instruction; runs are padded to a multiple of it
  bool wide;              ///< the source is widened to 16 bits before the tiles run
  int most_vectors;       ///< of 16 channels in one panel
  int64_t parallel_work;  ///< products below which another thread costs more than it gives (about 20 microseconds)
  bool (*supports)();     ///< whether the row is compiled in and may run now
  int64_t (*group_pixels)(int64_t channels);  ///< tiles but the last are multiples of it
  int64_t (*tile_pixels)(int64_t channels);   ///< most pixels in one tile of a panel with so many channels
  void (*run)(const Tile& tile, const Epilogue& epilogue);
  void (*copy)(const uint8_t* codes, int64_t n, void* elements);  ///< codes to elements of the source
  const CrossedKernel* crossed = nullptr;                         ///< a faster form for many channels, or null
};

/// THE table, worst row first. A new instruction set is a row here and a file with its `run`.
const std::vector<GemmRow>& gemm_table();

/// The last row that supports(): what everything that is packed now will run on.
const GemmRow& best_gemm_row();

}  // namespace tsquant::kernels
