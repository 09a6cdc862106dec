#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gemm_tile.h"
#include "kernels/isa.h"

// The kernels behind the rows of gemm_table.cpp. Call them through the table.
namespace tsquant::kernels {

/// Plain C++: the reference that every other row must equal bit for bit. Weights in steps of 1.
void run_scalar(const Tile& tile, const Epilogue& epilogue);

/// Exact 16-bit products added in pairs (vpmaddwd), compiled by Highway once per instruction set. Weights in steps of
/// 2, source of 16-bit integers.
struct PairKernel {
  const char* name;
  Isa isa;
  int most_vectors;
  bool (*supports)();
  int64_t (*group_pixels)(int64_t channels);
  int64_t (*tile_pixels)(int64_t channels);
  void (*run)(const Tile& tile, const Epilogue& epilogue);
  void (*copy)(const uint8_t* codes, int64_t n, void* elements);
};
std::vector<PairKernel> pair_kernels();

#if defined(__x86_64__)
/// 8-bit products added in fours (vpdpbusd) in 256-bit registers: processors with AVX-VNNI. Weights in steps of 4.
void run_vnni256(const Tile& tile, const Epilogue& epilogue);

/// The same in 512-bit registers: processors with AVX512-VNNI.
void run_vnni512(const Tile& tile, const Epilogue& epilogue);
int64_t vnni512_pixels(int64_t channels);

/// The AVX2 and AVX512 forms of what follows the sums: [pixel][sums_stride] 32-bit sums to codes or floats.
void finish_avx2(const int32_t* sums, int64_t sums_stride, const Tile& tile, const Epilogue& epilogue);
void finish_avx512(const int32_t* sums, int64_t sums_stride, const Tile& tile, const Epilogue& epilogue);
#endif

}  // namespace tsquant::kernels
