// Packing for the loops of winograd_hwy.cpp, their blocks and threads.
#include "kernels/winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

namespace tsquant::kernels {
namespace {

/// Transformed input that is read again for every panel of channels should stay in the second-level cache.
constexpr int64_t kBlockBytes = 192 * 1024;
constexpr int64_t kLeastTiles = 12;
/// Strides that are powers of two would fall into few sets of the cache.
constexpr int64_t kSpread = 16;
/// Products below which another thread costs more than it gives.
constexpr int64_t kParallelProducts = 1 << 20;

/// Memory of one thread; it keeps its size between calls, not its content.
struct Memory {
  AlignedBuffer input, products, sums;
  std::vector<const uint8_t*> pixels;
};
thread_local Memory memory;

/// 2G: the factors of a column of weights in each row of its transform.
constexpr std::array<std::array<int, 3>, 4> kWeightTransform = {{{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}}};

/// (2G) g (2G)^T at one position of the window.
int16_t transformed_weight(const int8_t* g, size_t row, size_t column) {
  int sum = 0;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) sum += kWeightTransform[row][i] * kWeightTransform[column][j] * g[3 * i + j];
  }
  return static_cast<int16_t>(sum);
}

int64_t tile_rows(const ConvGeometry& g) { return at::divup(g.out_height(), 2); }
int64_t tile_columns(const ConvGeometry& g) { return at::divup(g.out_width(), 2); }
int64_t count_tiles(const ConvGeometry& g) { return g.batch * tile_rows(g) * tile_columns(g); }

}  // namespace

/// One call.
struct WinogradConv::Job {
  const ConvGeometry& geometry;
  const Epilogue& epilogue;
  const uint8_t* source;
  const uint8_t* padding;  ///< the channels of a pixel outside of the image
  int64_t tiles, blocks;
};

/// Tiles that are transformed together; their planes lie in the memory of the thread.
struct WinogradConv::Block {
  std::vector<WinogradRun> runs;
  int64_t tiles = 0, tile_stride = 0, input_plane = 0, product_plane = 0;
};

const WinogradKernel* winograd_kernel(Isa isa) {
  for (const WinogradKernel& kernel : winograd_table()) {
    if (kernel.isa == isa && kernel.supports()) return &kernel;
  }
  return nullptr;
}

bool WinogradConv::supports(const ConvGeometry& g, const int8_t* weight) {
  if (g.transposed || g.groups != 1 || g.depth != 1 || g.kernel_d != 1 || g.pad_d != 0) return false;
  if (g.kernel_h != 3 || g.kernel_w != 3 || g.stride_h != 1 || g.stride_w != 1) return false;
  if (g.dilation_h != 1 || g.dilation_w != 1 || g.channels % kLanes != 0) return false;
  // Four times the sum must fit into 32 bits.
  constexpr int64_t kLargestCode = 255, kMostSum = std::numeric_limits<int32_t>::max() / (4 * kLargestCode);
  for (int64_t out = 0; out < g.out_channels; ++out, weight += g.channels * 9) {
    int64_t magnitude = 0;
    for (int64_t i = 0; i < g.channels * 9; ++i) magnitude += std::abs(int{weight[i]});
    if (magnitude > kMostSum) return false;
  }
  return true;
}

bool WinogradConv::pays(const ConvGeometry& g) {
  // Costs per input and output channel, in products: the weights are 3.6 times as many bytes as those of PackedConv.
  // Measured on Zen 3: 512 channels of 7 x 7 pixels take as long either way with weights in the third-level cache.
  constexpr double kProductsPerWeightByte = 10;
  const double pixels = static_cast<double>(g.batch * g.out_pixels()), tiles = static_cast<double>(count_tiles(g));
  const double direct = pixels * 9 + kProductsPerWeightByte * 9;
  const double winograd = tiles * kWinogradPlanes + kProductsPerWeightByte * 2 * kWinogradPlanes;
  return winograd < direct;
}

WinogradConv::WinogradConv(const WinogradKernel& kernel, const int8_t* weight, const ConvGeometry& g)
    : kernel_(kernel),
      channels_(g.channels),
      out_channels_(g.out_channels),
      panels_(at::divup(g.out_channels, kLanes)) {
  const int64_t plane = channels_ * kLanes, panel = kWinogradPlanes * plane;
  weights_.resize(static_cast<size_t>(panels_ * panel) * sizeof(int16_t));
  auto* packed = weights_.as<int16_t>();
  std::fill_n(packed, panels_ * panel, int16_t{0});
  for (int64_t out = 0; out < out_channels_; ++out) {
    for (int64_t channel = 0; channel < channels_; ++channel) {
      const int8_t* g3x3 = weight + (out * channels_ + channel) * 9;
      int16_t* to = packed + out / kLanes * panel + channel / 2 * 2 * kLanes + out % kLanes * 2 + channel % 2;
      for (size_t p = 0; p < kWinogradPlanes; ++p, to += plane) *to = transformed_weight(g3x3, p / 4, p % 4);
    }
  }
}

WinogradConv::Block WinogradConv::block_of(const Job& job, int64_t index) const {
  const int64_t rows = tile_rows(job.geometry), columns = tile_columns(job.geometry);
  // Blocks of nearly equal size.
  const int64_t least = job.tiles / job.blocks, longer = job.tiles % job.blocks;
  int64_t tile = index * least + std::min(index, longer);
  Block block;
  block.tiles = least + (index < longer ? 1 : 0);
  for (int64_t first = 0; first < block.tiles;) {
    const int64_t column = tile % columns, count = std::min(columns - column, block.tiles - first);
    block.runs.push_back({tile / columns / rows, tile / columns % rows, column, count, first});
    first += count;
    tile += count;
  }
  block.tile_stride = channels_ + kSpread;
  block.input_plane = block.tiles * block.tile_stride + kSpread;
  block.product_plane = block.tiles * kLanes + kSpread;
  return block;
}

void WinogradConv::transform_block(const Job& job, const Block& block) const {
  const ConvGeometry& g = job.geometry;
  memory.input.resize(static_cast<size_t>(kWinogradPlanes * block.input_plane) * sizeof(int16_t));
  for (const WinogradRun& run : block.runs) {
    const int64_t width = 2 * run.tiles + 2;
    memory.pixels.resize(static_cast<size_t>(kWinogradWindow * width));
    const uint8_t** pixel = memory.pixels.data();
    for (int64_t i = 0; i < kWinogradWindow; ++i) {
      const int64_t y = 2 * run.row + i - g.pad_h;
      const uint8_t* line = job.source + (run.image * g.height + y) * g.width * channels_;
      for (int64_t x = 2 * run.column - g.pad_w, end = x + width; x < end; ++x) {
        const bool inside = y >= 0 && y < g.height && x >= 0 && x < g.width;
        *pixel++ = inside ? line + x * channels_ : job.padding;
      }
    }
    kernel_.transform(memory.pixels.data(), run.tiles, channels_,
                      memory.input.as<int16_t>() + run.first * block.tile_stride, block.tile_stride, block.input_plane);
  }
}

void WinogradConv::run_panel(const Job& job, const Block& block, int64_t panel) const {
  const ConvGeometry& g = job.geometry;
  const int64_t plane_weights = channels_ * kLanes, height = g.out_height(), width = g.out_width();
  memory.products.resize(static_cast<size_t>(kWinogradPlanes * block.product_plane) * sizeof(int32_t));
  memory.sums.resize(static_cast<size_t>(4 * block.tiles * kLanes) * sizeof(int32_t));
  auto* products = memory.products.as<int32_t>();
  for (int64_t p = 0; p < kWinogradPlanes; ++p) {
    kernel_.multiply(memory.input.as<int16_t>() + p * block.input_plane, block.tile_stride,
                     weights_.as<int16_t>() + (panel * kWinogradPlanes + p) * plane_weights, channels_, block.tiles,
                     products + p * block.product_plane);
  }
  Tile top;
  top.first_channel = panel * kLanes;
  top.channels = std::min(kLanes, out_channels_ - top.first_channel);
  for (const WinogradRun& run : block.runs) {
    const int64_t y = 2 * run.row, x = 2 * run.column;
    top.first_pixel = (run.image * height + y) * width + x;
    top.pixels = std::min(2 * run.tiles, width - x);
    kernel_.finish(products + run.first * kLanes, block.product_plane, run.tiles, memory.sums.as<int32_t>(), top,
                   y + 1 < height ? width : 0, job.epilogue);
  }
}

/// Panels are numbered block by block: the input of a block is transformed once per thread that works on it.
void WinogradConv::run_range(const Job& job, int64_t begin, int64_t end) const {
  for (int64_t item = begin; item < end;) {
    const Block block = block_of(job, item / panels_);
    transform_block(job, block);
    const int64_t last = std::min(end, (item / panels_ + 1) * panels_);
    for (; item < last; ++item) run_panel(job, block, item % panels_);
  }
}

void WinogradConv::run(const ConvGeometry& g, const uint8_t* source, uint8_t input_zero_point,
                       const Epilogue& e) const {
  const std::vector<uint8_t> padding(static_cast<size_t>(channels_), input_zero_point);
  const int64_t tiles = count_tiles(g), tile_bytes = kWinogradPlanes * (channels_ + kSpread) * 2;
  if (tiles == 0) return;
  const int64_t most = std::max(kLeastTiles, kBlockBytes / tile_bytes);
  const Job job{g, e, source, padding.data(), tiles, at::divup(tiles, most)};
  const int64_t products = tiles / job.blocks * kWinogradPlanes * channels_ * kLanes;
  at::parallel_for(0, job.blocks * panels_, std::max<int64_t>(1, kParallelProducts / std::max<int64_t>(products, 1)),
                   [&](int64_t begin, int64_t end) { run_range(job, begin, end); });
}

}  // namespace tsquant::kernels
