#include "kernels/conv_geometry.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

namespace tsquant::kernels {
namespace {

constexpr size_t kMostTables = 256;
constexpr int64_t kLargestTable = int64_t{1} << 22;

/// Residues that occur along one axis: as many as the stride, but no more than needed.
int64_t residues(const ConvGeometry& g, const Axis& axis) { return g.transposed ? axis.stride : 1; }

std::vector<int64_t> taps_along(const ConvGeometry& g, const Axis& axis, int64_t residue) {
  std::vector<int64_t> taps;
  for (int64_t k = 0; k < axis.kernel; ++k) {
    if (!g.transposed || k * axis.dilation % axis.stride == residue) taps.push_back(k);
  }
  return taps;
}

/// Where tap `k` of output position `o` reads along one axis; -1: outside.
int64_t source_position(const ConvGeometry& g, const Axis& axis, int64_t o, int64_t k) {
  int64_t position;
  if (g.transposed) {
    const int64_t distance = o + axis.pad - k * axis.dilation;
    if (distance < 0) return -1;
    position = distance / axis.stride;
  } else {
    position = o * axis.stride - axis.pad + k * axis.dilation;
  }
  return position >= 0 && position < axis.size ? position : -1;
}

}  // namespace

bool ConvGeometry::pointwise() const {
  if (transposed) return false;
  const auto all = axes();
  return std::all_of(all.begin(), all.end(),
                     [](const Axis& a) { return a.kernel == 1 && a.stride == 1 && a.pad == 0; });
}

int64_t count_phases(const ConvGeometry& g) {
  int64_t count = 1;
  for (const Axis& axis : g.axes()) {
    const int64_t here = residues(g, axis);
    if (here > INT32_MAX || count > INT32_MAX) return INT64_MAX;
    count *= here;
  }
  return count;
}

std::vector<Phase> phases_of(const ConvGeometry& g) {
  const auto axes = g.axes();
  std::vector<Phase> phases;
  for (int64_t rd = 0; rd < residues(g, axes[0]); ++rd) {
    for (int64_t rh = 0; rh < residues(g, axes[1]); ++rh) {
      for (int64_t rw = 0; rw < residues(g, axes[2]); ++rw) {
        Phase phase;
        phase.residue = {rd, rh, rw};
        const auto w = taps_along(g, axes[2], rw);
        for (const int64_t kd : taps_along(g, axes[0], rd)) {
          for (const int64_t kh : taps_along(g, axes[1], rh)) {
            for (const int64_t kw : w) phase.taps.push_back({kd, kh, kw});
          }
        }
        phases.push_back(std::move(phase));
      }
    }
  }
  return phases;
}

OutputGrid grid_of(const ConvGeometry& g, const Phase& phase) {
  OutputGrid grid;
  const auto axes = g.axes();
  for (size_t i = 0; i < 3; ++i) {
    const int64_t out = axes[i].out(g.transposed);
    if (!g.transposed) {
      grid.count[i] = out;
      continue;
    }
    const int64_t stride = axes[i].stride;
    grid.start[i] = ((phase.residue[i] - axes[i].pad) % stride + stride) % stride;
    grid.step[i] = stride;
    grid.count[i] = out <= grid.start[i] ? 0 : (out - grid.start[i] - 1) / stride + 1;
  }
  return grid;
}

int64_t taps_in_table(const SourceLayout& layout, const Phase& phase) {
  return std::count_if(phase.taps.begin(), phase.taps.end(),
                       [&](const auto& tap) { return !layout.by_rows || tap[2] == 0; });
}

void fill_offsets(const ConvGeometry& g, const SourceLayout& layout, const Phase& phase, const OutputGrid& grid,
                  int64_t first, int64_t count, int32_t* out) {
  const auto axes = g.axes();
  std::array<int64_t, 3> wide{};
  for (size_t i = 0; i < 3; ++i) wide[i] = axes[i].size + 2 * layout.pad(axes[i]);
  for (int64_t pixel = first; pixel < first + count; ++pixel) {
    const std::array<int64_t, 3> o = {grid.start[0] + pixel / (grid.count[1] * grid.count[2]) * grid.step[0],
                                      grid.start[1] + pixel / grid.count[2] % grid.count[1] * grid.step[1],
                                      grid.start[2] + pixel % grid.count[2] * grid.step[2]};
    for (const auto& tap : phase.taps) {
      if (layout.by_rows && tap[2] != 0) continue;
      int64_t offset = 0;
      for (size_t i = 0; i < 3 && offset >= 0; ++i) {
        const int64_t at = layout.by_rows ? o[i] * axes[i].stride + tap[i] * axes[i].dilation
                                          : source_position(g, axes[i], o[i], tap[i]);
        offset = at < 0 ? -1 : offset * wide[i] + at;
      }
      *out++ = offset < 0 ? -1 : static_cast<int32_t>(offset * g.channels);
    }
  }
}

std::shared_ptr<const OffsetTable> shared_offsets(const ConvGeometry& g, const SourceLayout& layout, const Phase& phase,
                                                  const OutputGrid& grid) {
  const int64_t taps = taps_in_table(layout, phase);
  if (grid.pixels() > kLargestTable / std::max<int64_t>(taps, 1)) return nullptr;
  using Key = std::vector<int64_t>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const OffsetTable>> tables;
  Key key = {g.channels, g.transposed ? 1 : 0, layout.by_rows ? 1 : 0};
  const auto axes = g.axes();
  for (size_t i = 0; i < 3; ++i) {
    const Axis& a = axes[i];
    for (const int64_t n : {a.size, a.kernel, a.stride, a.pad, a.dilation, a.output_padding, phase.residue[i]}) {
      key.push_back(n);
    }
  }
  const std::lock_guard<std::mutex> lock(mutex);
  if (auto table = tables[key].lock()) return table;
  auto table = std::make_shared<OffsetTable>(static_cast<size_t>(grid.pixels() * taps));
  fill_offsets(g, layout, phase, grid, 0, grid.pixels(), table->data());
  // Models that see many shapes must not fill the map with tables that nobody uses any more.
  for (auto it = tables.begin(); tables.size() > kMostTables && it != tables.end();) {
    it = it->second.expired() ? tables.erase(it) : std::next(it);
  }
  tables[key] = table;
  return table;
}

std::vector<int32_t> places_of(const ConvGeometry& g, const OutputGrid& grid) {
  if (!g.transposed || grid.step == std::array<int64_t, 3>{1, 1, 1}) return {};
  const int64_t out_h = g.out_height(), out_w = g.out_width();
  std::vector<int32_t> places;
  places.reserve(static_cast<size_t>(grid.pixels()));
  for (int64_t d = 0; d < grid.count[0]; ++d) {
    for (int64_t h = 0; h < grid.count[1]; ++h) {
      for (int64_t w = 0; w < grid.count[2]; ++w) {
        const int64_t line = (grid.start[0] + d * grid.step[0]) * out_h + grid.start[1] + h * grid.step[1];
        places.push_back(static_cast<int32_t>(line * out_w + grid.start[2] + w * grid.step[2]));
      }
    }
  }
  return places;
}

}  // namespace tsquant::kernels
