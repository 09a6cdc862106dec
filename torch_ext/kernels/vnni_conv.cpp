#include "kernels/vnni_conv.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

namespace tsquant::kernels {
namespace {
/// Steps below which another thread costs more than it gives (about 20 microseconds of work).
constexpr int64_t kSmallestParallelSteps = 4096;
}  // namespace

/// One call: everything that the tiles need to know.
struct VnniConv::Job {
  const ConvGeometry& geometry;
  const OffsetTable& offsets;
  const Epilogue& epilogue;
  const uint8_t* source = nullptr;
  int64_t image_bytes = 0;
  const uint8_t* padding = nullptr;

  int64_t tiles_per_image(const Group& group) const {
    const int64_t pixels = tile_pixels(group.vectors);
    return (geometry.out_pixels() + pixels - 1) / pixels;
  }
};

VnniConv::VnniConv(const int8_t* weight, const ConvGeometry& geometry)
    : out_channels_(geometry.out_channels), taps_(geometry.taps()), steps_(geometry.steps()) {
  for (int64_t first = 0, offset = 0; first < out_channels_; first += kGroupChannels) {
    const int64_t channels = std::min(kGroupChannels, out_channels_ - first);
    const int vectors = static_cast<int>((channels + 15) / 16);
    const int64_t bytes = taps_ * steps_ * vectors * 64;
    groups_.push_back({first, channels, offset, bytes, vectors});
    offset += bytes;
    weight_bytes_ = offset;
  }
  padded_channels_ = (out_channels_ + 15) / 16 * 16;
  weights_.resize(static_cast<size_t>(weight_bytes_));
  pack(weight, geometry);
}

void VnniConv::pack(const int8_t* weight, const ConvGeometry& g) {
  auto* packed = weights_.as<int8_t>();
  std::memset(packed, 0, static_cast<size_t>(weight_bytes_));
  const int64_t kernel = g.kernel_h * g.kernel_w;
  for (const Group& group : groups_) {
    for (int64_t lane = 0; lane < group.channels; ++lane) {
      const int8_t* from = weight + (group.first_channel + lane) * g.channels * kernel;
      for (int64_t tap = 0; tap < taps_; ++tap) {
        for (int64_t byte = 0; byte < g.run_bytes(); ++byte) {
          const int64_t channel = byte % g.channels;
          const int64_t position = g.by_rows() ? tap * g.kernel_w + byte / g.channels : tap;
          const int64_t vector = (tap * steps_ + byte / 4) * group.vectors + lane / 16;
          packed[group.offset + vector * 64 + lane % 16 * 4 + byte % 4] = from[channel * kernel + position];
        }
      }
    }
  }
}

void VnniConv::link_from_previous() const {
  thread_local std::shared_ptr<Successor> previous;
  if (previous != nullptr && previous != successor_) {
    previous->weights.store(weights_.as<int8_t>(), std::memory_order_relaxed);
    previous->bytes.store(groups_.front().bytes, std::memory_order_relaxed);
  }
  previous = successor_;
}

/// by_rows() needs a copy of the input with the padding written out; also sets up the run of padding bytes.
const uint8_t* VnniConv::prepare_source(Job& job, const uint8_t* source) const {
  const ConvGeometry& g = job.geometry;
  if (!g.by_rows()) {
    job.image_bytes = g.height * g.width * g.channels;
    return source;
  }
  thread_local AlignedBuffer copy;
  job.image_bytes = g.padded_image_bytes();
  copy.resize(static_cast<size_t>(g.batch * job.image_bytes), 64);
  const uint8_t zero_point = job.padding[0];
  const int64_t row = g.width * g.channels, side = g.pad_w * g.channels, padded_row = row + 2 * side;
  auto* out = copy.as<uint8_t>();
  for (int64_t n = 0; n < g.batch; ++n) {
    std::memset(out, zero_point, static_cast<size_t>(g.pad_h * padded_row));
    out += g.pad_h * padded_row;
    for (int64_t y = 0; y < g.height; ++y, out += padded_row) {
      std::memset(out, zero_point, static_cast<size_t>(side));
      std::memcpy(out + side, source + (n * g.height + y) * row, static_cast<size_t>(row));
      std::memset(out + side + row, zero_point, static_cast<size_t>(side));
    }
    std::memset(out, zero_point, static_cast<size_t>(g.pad_h * padded_row));
    out += g.pad_h * padded_row;
  }
  return copy.as<uint8_t>();
}

/// Tiles are numbered group by group, so that one group's weights stay in the second-level cache while all pixels of
/// all images pass.
void VnniConv::run_range(const Job& job, int64_t begin, int64_t end) const {
  const int8_t* weights = weights_.as<int8_t>();
  int64_t number = 0;
  for (size_t g = 0; g < groups_.size() && number < end; ++g) {
    const Group& group = groups_[g];
    const int64_t per_image = job.tiles_per_image(group), count = per_image * job.geometry.batch;
    const bool last = g + 1 == groups_.size();
    const int8_t* next = last ? successor_->weights.load(std::memory_order_relaxed) : weights + groups_[g + 1].offset;
    const int64_t next_bytes = next == nullptr ? 0
                               : last          ? successor_->bytes.load(std::memory_order_relaxed)
                                               : groups_[g + 1].bytes;
    const int64_t all_steps = count * taps_ * steps_;
    const int64_t lines_per_step = (next_bytes / 64 + all_steps - 1) / std::max<int64_t>(all_steps, 1);
    Tile tile;
    tile.padding = job.padding;
    tile.weights = weights + group.offset;
    tile.taps = taps_;
    tile.steps = steps_;
    tile.vectors = group.vectors;
    tile.channels = group.channels;
    tile.first_channel = group.first_channel;
    const int64_t step = tile_pixels(group.vectors), pixels = job.geometry.out_pixels();
    for (int64_t i = std::max(begin, number); i < std::min(end, number + count); ++i) {
      const int64_t image = (i - number) / per_image, first = (i - number) % per_image * step;
      const int64_t fetched = (i - number) * taps_ * steps_ * lines_per_step * 64;
      const bool fetch = fetched < next_bytes;
      tile.prefetch = fetch ? next + fetched : tile.weights;
      tile.prefetch_step = fetch ? lines_per_step * 64 : 0;
      tile.source = job.source + image * job.image_bytes;
      tile.offsets = job.offsets.data() + first * taps_;
      tile.first_pixel = image * pixels + first;
      tile.pixels = std::min(step, pixels - first);
      run_vnni_tile(tile, job.epilogue);
    }
    number += count;
  }
}

void VnniConv::run(const ConvGeometry& geometry, const OffsetTable& offsets, const uint8_t* source,
                   uint8_t input_zero_point, const Epilogue& epilogue) const {
  thread_local AlignedBuffer padding;
  padding.resize(static_cast<size_t>(steps_ * 4));
  std::memset(padding.as<uint8_t>(), input_zero_point, static_cast<size_t>(steps_ * 4));
  Job job{geometry, offsets, epilogue};
  job.padding = padding.as<uint8_t>();
  job.source = prepare_source(job, source);
  link_from_previous();
  int64_t tiles = 0;
  for (const Group& group : groups_) tiles += job.tiles_per_image(group) * geometry.batch;
  const int64_t work_per_tile = taps_ * steps_;
  const int64_t grain = std::max<int64_t>(1, kSmallestParallelSteps / std::max<int64_t>(1, work_per_tile));
  at::parallel_for(0, tiles, grain, [&](int64_t begin, int64_t end) { run_range(job, begin, end); });
}

}  // namespace tsquant::kernels
