#include "kernels/packed_conv.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

namespace tsquant::kernels {
namespace {

/// Input that is read again for every panel of channels should stay in the second-level cache.
constexpr int64_t kUnitBytes = 192 * 1024;
/// Weights that stay in the first-level cache leave the rest of it to the input and the results of a unit.
constexpr int64_t kSmallWeights = 8 * 1024, kSmallUnitBytes = 24 * 1024;
constexpr int64_t kCacheLine = 64;
/// Fewer channels do not repay the sums that crossed products need of every pixel. Fewer products per sum leave little
/// to gain: what follows the sums takes most of the time.
constexpr int64_t kLeastCrossedChannels = 48, kLeastCrossedProducts = 64;
/// One or two pixels wait for their weights, which pairs read faster.
constexpr int64_t kLeastCrossedPixels = 3;

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Memory of one thread; it keeps its size between calls, not its content.
struct Scratch {
  AlignedBuffer copy;
  OffsetTable offsets;
  std::vector<int32_t> starts;
};
thread_local Scratch scratch;

void fill(bool wide, std::byte* out, int64_t n, uint8_t value) {
  if (wide) {
    std::fill_n(reinterpret_cast<int16_t*>(out), n, static_cast<int16_t>(value));
  } else {
    std::memset(out, value, static_cast<size_t>(n));
  }
}

/// Where the runs with these offsets begin; negative offsets are padding.
ElementRange reach_of(const int32_t* offsets, int64_t n, int64_t image_elements) {
  ElementRange reach = {image_elements, 0};
  for (int64_t i = 0; i < n; ++i) {
    if (offsets[i] < 0) continue;
    reach.low = std::min<int64_t>(reach.low, offsets[i]);
    reach.high = std::max<int64_t>(reach.high, offsets[i]);
  }
  return reach;
}

/// Whether kernel rows as runs take fewer steps than single pixels.
bool rows_pay(const ConvGeometry& g, int64_t step) {
  if (g.transposed || g.groups != 1 || g.dilation_w != 1 || g.kernel_w == 1) return false;
  const int64_t by_rows = at::divup(g.kernel_w * g.channels, step),
                by_pixels = g.kernel_w * at::divup(g.channels, step);
  return g.channels <= 16 || by_rows * 10 < by_pixels * 9;
}

}  // namespace

/// One call: everything that the tiles need to know.
struct PackedConv::Job {
  const ConvShape& shape;
  const std::vector<Epilogue>& epilogues;
  const uint8_t* source;
  uint8_t zero_point;
  const void* padding;
};

PackedConv::PackedConv(const GemmRow& row, const int8_t* weight, const ConvGeometry& g,
                       const std::vector<Phase>& phases)
    : row_(row) {
  layout_.by_rows = rows_pay(g, row.step);
  if (!layout_.by_rows && g.groups == 1 && g.out_channels >= kLeastCrossedChannels &&
      g.channels * g.taps() >= kLeastCrossedProducts) {
    crossed_ = row.crossed;
  }
  make_panels(g);
  int64_t total = 0;
  for (const Phase& phase : phases) {
    PackedPhase packed{phase, taps_in_table(layout_, phase), {}, {}, {}};
    for (const Panel& panel : panels_) {
      packed.offsets.push_back(total);
      packed.bytes.push_back(round_up(packed.taps * panel.steps * row.step * panel.vectors * kLanes, kCacheLine));
      total += packed.bytes.back();
    }
    phases_.push_back(std::move(packed));
  }
  weights_.resize(static_cast<size_t>(total));
  std::memset(weights_.as<int8_t>(), 0, static_cast<size_t>(total));
  for (PackedPhase& packed : phases_) {
    packed.starts.resize(crossed_ != nullptr ? panels_.size() * kLanes : 0);
    for (size_t i = 0; i < panels_.size(); ++i) {
      auto* panel = weights_.as<int8_t>() + packed.offsets[i];
      pack_panel(weight, g, packed.phase, panels_[i], panel);
      if (crossed_ == nullptr) continue;
      crossed_channel_starts(panel, packed.taps * panels_[i].steps, packed.starts.data() + i * kLanes);
    }
  }
}

void PackedConv::make_panels(const ConvGeometry& g) {
  const int64_t in_group = g.channels / g.groups, out_group = g.out_channels / g.groups;
  const int64_t merged = std::max<int64_t>(1, kLanes / out_group);
  for (int64_t group = 0; group < g.groups; group += merged) {
    const int64_t count = std::min(merged, g.groups - group);
    const int64_t run = layout_.by_rows ? g.kernel_w * g.channels : count * in_group;
    const int64_t end = (group + count) * out_group;
    for (int64_t first = group * out_group; first < end; first += row_.most_vectors * kLanes) {
      const int64_t channels = std::min(row_.most_vectors * kLanes, end - first);
      panels_.push_back({first, channels, group * in_group, run, round_up(run, run_step()) / row_.step,
                         static_cast<int>(at::divup(channels, kLanes))});
    }
    longest_run_ = std::max(longest_run_, round_up(run, run_step()));
    // Reading a few elements past a run costs nothing, but it must not leave the caller's memory.
    if (run % row_.step != 0) in_place_ = false;
  }
  if (row_.wide || layout_.by_rows) in_place_ = false;
}

void PackedConv::pack_panel(const int8_t* weight, const ConvGeometry& g, const Phase& phase, const Panel& panel,
                            int8_t* packed) {
  const int64_t in_group = g.channels / g.groups, out_group = g.out_channels / g.groups;
  const int64_t step = row_.step, step_bytes = panel.vectors * kLanes * step;
  const auto place = [&](int64_t k, int64_t lane) { return k / step * step_bytes + lane * step + k % step; };
  for (const auto& tap : phase.taps) {
    if (layout_.by_rows && tap[2] != 0) continue;
    const int64_t position = (tap[0] * g.kernel_h + tap[1]) * g.kernel_w + tap[2];
    for (int64_t lane = 0; lane < panel.channels; ++lane) {
      const int64_t out = panel.first_channel + lane;
      if (layout_.by_rows) {
        for (int64_t k = 0; k < panel.run; ++k) {
          packed[place(k, lane)] = weight[g.weight_index(out, k % g.channels, position + k / g.channels)];
        }
        continue;
      }
      // Between the groups of a block stay zeros.
      const int64_t skip = out / out_group * in_group - panel.source_channel;
      const int8_t* from = weight + g.weight_index(out, 0, position);
      const int64_t stride = g.weight_index(out, 1, position) - g.weight_index(out, 0, position);
      for (int64_t k = 0; k < in_group; ++k) packed[place(skip + k, lane)] = from[k * stride];
    }
    packed += panel.steps * step_bytes;
  }
}

int64_t PackedConv::image_elements(const ConvGeometry& g) const {
  int64_t pixels = 1;
  for (const Axis& axis : g.axes()) pixels *= axis.size + 2 * layout_.pad(axis);
  return pixels * g.channels;
}

bool PackedConv::crosses(const ConvShape::Unit& unit) const {
  return crossed_ != nullptr && unit.pixels >= kLeastCrossedPixels;
}

int64_t PackedConv::tiles_per_image(const Panel& panel, const ConvShape::Unit& unit) const {
  const auto tile_pixels = crosses(unit) ? crossed_->tile_pixels : row_.tile_pixels;
  return at::divup(unit.pixels, tile_pixels(panel.channels));
}

int64_t PackedConv::group_pixels(const Panel& panel, const ConvShape::Unit& unit) const {
  return (crosses(unit) ? crossed_->group_pixels : row_.group_pixels)(panel.channels);
}

ConvShape PackedConv::shape(const ConvGeometry& g) const {
  ConvShape shape;
  shape.geometry = g;
  shape.image_elements = image_elements(g);
  const auto weight_bytes = static_cast<int64_t>(weights_.capacity());
  int64_t image_bytes = std::max<int64_t>(shape.image_elements * element_bytes(), 1);
  int64_t unit_bytes = std::max<int64_t>(kUnitBytes, weight_bytes / 4);
  if (row_.wide && weight_bytes <= kSmallWeights) {
    image_bytes += g.out_pixels() * g.out_channels;
    unit_bytes = kSmallUnitBytes;
  }
  const int64_t blocks = at::divup(image_bytes, unit_bytes), images = std::max<int64_t>(1, unit_bytes / image_bytes);
  for (const PackedPhase& packed : phases_) {
    ConvShape::PhaseShape phase;
    phase.grid = grid_of(g, packed.phase);
    const int64_t pixels = phase.grid.pixels();
    if (pixels > 0) {
      phase.offsets = shared_offsets(g, layout_, packed.phase, phase.grid);
      phase.places = places_of(g, phase.grid);
      const int64_t per_block = at::divup(pixels, std::min(blocks, pixels));
      for (int64_t image = 0; image < g.batch; image += images) {
        const int64_t count = std::min(images, g.batch - image);
        for (int64_t pixel = 0; pixel < pixels; pixel += per_block) {
          const int64_t of_block = std::min(per_block, pixels - pixel);
          ElementRange reach;
          if (phase.offsets != nullptr) {
            reach = reach_of(phase.offsets->data() + pixel * packed.taps, of_block * packed.taps, shape.image_elements);
          }
          phase.units.push_back({image, count, pixel, of_block, reach});
        }
      }
    }
    for (const auto& unit : phase.units) {
      for (const Panel& panel : panels_) {
        shape.tiles += unit.images * tiles_per_image(panel, unit);
        shape.products += unit.images * unit.pixels * packed.taps * panel.steps * row_.step * panel.vectors * kLanes;
      }
    }
    shape.phases.push_back(std::move(phase));
  }
  return shape;
}

/// Lines of the image with its borders written out, as elements.
void PackedConv::copy_lines(const Job& job, const uint8_t* image, int64_t first_line, int64_t last_line,
                            std::byte* out) const {
  const ConvGeometry& g = job.shape.geometry;
  const int64_t row = g.width * g.channels, side = g.pad_w * g.channels,
                line_bytes = (row + 2 * side) * element_bytes();
  const int64_t lines = g.height + 2 * g.pad_h;
  for (int64_t line = first_line; line <= last_line; ++line, out += line_bytes) {
    const int64_t d = line / lines - g.pad_d, h = line % lines - g.pad_h;
    if (d < 0 || d >= g.depth || h < 0 || h >= g.height) {
      fill(row_.wide, out, row + 2 * side, job.zero_point);
      continue;
    }
    fill(row_.wide, out, side, job.zero_point);
    row_.copy(image + (d * g.height + h) * row, row, out + side * element_bytes());
    fill(row_.wide, out + (side + row) * element_bytes(), side, job.zero_point);
  }
}

/// Copies what the unit reads, elements [low, high) of each image, and returns where element 0 of the first image
/// would lie.
const void* PackedConv::copy_unit(const Job& job, const ConvShape::Unit& unit, int64_t low, int64_t high) const {
  const ConvGeometry& g = job.shape.geometry;
  const int64_t line = layout_.by_rows ? (g.width + 2 * g.pad_w) * g.channels : g.channels;
  low = low / line * line;
  high = at::divup(high, line) * line;
  const int64_t elements = unit.images > 1 ? unit.images * job.shape.image_elements : high - low;
  scratch.copy.resize(static_cast<size_t>((elements + kCrossedStep) * element_bytes()),
                      static_cast<size_t>(longest_run_ * element_bytes()));
  auto* out = scratch.copy.as<std::byte>();
  if (unit.images > 1) out += low * element_bytes();
  for (int64_t i = 0; i < unit.images; ++i) {
    const uint8_t* image = job.source + (unit.first_image + i) * g.in_pixels() * g.channels;
    std::byte* to = out + i * job.shape.image_elements * element_bytes();
    if (layout_.by_rows) {
      copy_lines(job, image, low / line, high / line - 1, to);
    } else {
      row_.copy(image + low, high - low, to);
    }
    // Runs are read to a multiple of the step.
    fill(row_.wide, to + (high - low) * element_bytes(), kCrossedStep, 0);
  }
  return out - low * element_bytes();
}

void PackedConv::run_panel(const Job& job, size_t phase, const ConvShape::Unit& unit, size_t index, int64_t begin,
                           int64_t end, Tile tile) const {
  const Panel& panel = panels_[index];
  const PackedPhase& packed = phases_[phase];
  const auto& places = job.shape.phases[phase].places;
  const int64_t per_image = tiles_per_image(panel, unit), out_pixels = job.shape.geometry.out_pixels();
  const auto* images = static_cast<const std::byte*>(tile.source);
  const int32_t* offsets = tile.offsets;
  tile.weights = weights_.as<int8_t>() + packed.offsets[index];
  tile.steps = panel.steps;
  tile.vectors = panel.vectors;
  tile.channels = panel.channels;
  tile.first_channel = panel.first_channel;
  tile.channel_starts = crossed_ != nullptr ? packed.starts.data() + index * kLanes : nullptr;
  // The weights of the next panel are fetched while this one runs.
  const bool last = index + 1 == panels_.size();
  const int64_t next_bytes = last ? 0 : packed.bytes[index + 1];
  const int64_t all_steps = std::max<int64_t>(per_image * unit.images * packed.taps * panel.steps, 1);
  const int64_t fetch_bytes = at::divup(next_bytes / kCacheLine, all_steps) * kCacheLine;
  // Tiles of nearly equal numbers of groups: a short one at the end would take as long as a full one.
  const int64_t group = group_pixels(panel, unit), groups = at::divup(unit.pixels, group);
  const int64_t least = groups / per_image, longer = groups % per_image;
  int64_t image = begin / per_image, part = begin % per_image;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = (part * least + std::min(part, longer)) * group, pixel = unit.first_pixel + first;
    const int64_t fetched = i * packed.taps * panel.steps * fetch_bytes;
    const bool fetch = fetched < next_bytes;
    tile.prefetch = fetch ? weights_.as<int8_t>() + packed.offsets[index + 1] + fetched : tile.weights;
    tile.prefetch_step = fetch ? fetch_bytes : 0;
    tile.source = images + (image * job.shape.image_elements + panel.source_channel) * element_bytes();
    tile.offsets = offsets + first * packed.taps;
    tile.pixels = std::min((least + (part < longer ? 1 : 0)) * group, unit.pixels - first);
    tile.first_pixel = (unit.first_image + image) * out_pixels + (places.empty() ? pixel : 0);
    tile.places = places.empty() ? nullptr : places.data() + pixel;
    if (crosses(unit)) {
      tile.pixel_starts = scratch.starts.data() + image * unit.pixels + first;
      crossed_->run(tile, job.epilogues[phase]);
    } else {
      row_.run(tile, job.epilogues[phase]);
    }
    if (++part == per_image) {
      part = 0;
      ++image;
    }
  }
}

/// Tiles are numbered unit by unit and panel by panel: the input of a unit is copied once, and the weights of a panel
/// stay in the cache while all pixels of the unit pass.
void PackedConv::run_range(const Job& job, int64_t begin, int64_t end) const {
  int64_t number = 0;
  for (size_t p = 0; p < phases_.size() && number < end; ++p) {
    const auto& phase = job.shape.phases[p];
    for (const auto& unit : phase.units) {
      if (number >= end) break;
      Tile tile;
      tile.padding = job.padding;
      tile.taps = phases_[p].taps;
      bool ready = false;
      for (size_t index = 0; index < panels_.size() && number < end; ++index) {
        const int64_t count = unit.images * tiles_per_image(panels_[index], unit);
        const int64_t from = std::max<int64_t>(begin - number, 0), to = std::min(end - number, count);
        number += count;
        if (from >= to) continue;
        if (!ready) {
          prepare_unit(job, p, unit, tile);
          if (crosses(unit)) prepare_starts(job, unit, tile);
          ready = true;
        }
        run_panel(job, p, unit, index, from, to, tile);
      }
    }
  }
}

/// Sets the tile's source and offsets to those of the unit.
void PackedConv::prepare_unit(const Job& job, size_t p, const ConvShape::Unit& unit, Tile& tile) const {
  const auto& phase = job.shape.phases[p];
  const int64_t taps = phases_[p].taps;
  tile.run_distance = job.shape.geometry.pointwise() ? job.shape.geometry.channels : 0;
  if (phase.offsets != nullptr) {
    tile.offsets = phase.offsets->data() + unit.first_pixel * taps;
  } else {
    scratch.offsets.resize(static_cast<size_t>(unit.pixels * taps));
    fill_offsets(job.shape.geometry, layout_, phases_[p].phase, phase.grid, unit.first_pixel, unit.pixels,
                 scratch.offsets.data());
    tile.offsets = scratch.offsets.data();
  }
  if (in_place_) {
    tile.source = job.source + unit.first_image * job.shape.image_elements;
    return;
  }
  const auto [low, high] =
      phase.offsets != nullptr ? unit.reach : reach_of(tile.offsets, unit.pixels * taps, job.shape.image_elements);
  const int64_t reach = layout_.by_rows ? longest_run_ : job.shape.geometry.channels;
  tile.source = low > high ? tile.padding : copy_unit(job, unit, low, std::min(high + reach, job.shape.image_elements));
}

/// What the sums of all pixels of the unit begin with.
void PackedConv::prepare_starts(const Job& job, const ConvShape::Unit& unit, Tile tile) const {
  const auto* images = static_cast<const std::byte*>(tile.source);
  tile.steps = panels_.front().steps;
  tile.pixels = unit.pixels;
  scratch.starts.resize(static_cast<size_t>(unit.images * unit.pixels));
  for (int64_t image = 0; image < unit.images; ++image) {
    tile.source = images + image * job.shape.image_elements * element_bytes();
    crossed_->pixel_starts(tile, scratch.starts.data() + image * unit.pixels);
  }
}

void PackedConv::run(const ConvShape& shape, const uint8_t* source, uint8_t input_zero_point,
                     const std::vector<Epilogue>& epilogues) const {
  AlignedBuffer padding(static_cast<size_t>(longest_run_ * element_bytes()));
  fill(row_.wide, padding.as<std::byte>(), longest_run_, input_zero_point);
  const Job job{shape, epilogues, source, input_zero_point, padding.as<void>()};
  const int64_t per_tile = std::max<int64_t>(1, shape.products / std::max<int64_t>(shape.tiles, 1));
  const int64_t grain = std::max<int64_t>(1, row_.parallel_work / per_tile);
  at::parallel_for(0, shape.tiles, grain, [&](int64_t begin, int64_t end) { run_range(job, begin, end); });
}

}  // namespace tsquant::kernels
