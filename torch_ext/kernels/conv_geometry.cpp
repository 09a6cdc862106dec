#include "kernels/conv_geometry.h"

#include <iterator>
#include <map>
#include <mutex>

namespace tsquant::kernels {
namespace {

constexpr size_t kMostTables = 256;

OffsetTable make_table(const ConvGeometry& g) {
  OffsetTable table;
  table.reserve(static_cast<size_t>(g.out_pixels() * g.taps()));
  const int64_t out_w = g.out_width();
  for (int64_t pixel = 0; pixel < g.out_pixels(); ++pixel) {
    const int64_t y0 = pixel / out_w * g.stride_h, x0 = pixel % out_w * g.stride_w;
    for (int64_t tap = 0; tap < g.taps(); ++tap) {
      if (g.by_rows()) {
        table.push_back(static_cast<int32_t>(((y0 + tap * g.dilation_h) * g.padded_width() + x0) * g.channels));
        continue;
      }
      const int64_t y = y0 - g.pad_h + tap / g.kernel_w * g.dilation_h;
      const int64_t x = x0 - g.pad_w + tap % g.kernel_w * g.dilation_w;
      const bool inside = y >= 0 && x >= 0 && y < g.height && x < g.width;
      table.push_back(inside ? static_cast<int32_t>((y * g.width + x) * g.channels) : -1);
    }
  }
  return table;
}

}  // namespace

std::shared_ptr<const OffsetTable> offset_table(const ConvGeometry& g) {
  using Key = std::array<int64_t, 11>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const OffsetTable>> tables;
  const Key key = {g.channels, g.height, g.width, g.kernel_h,   g.kernel_w,  g.stride_h,
                   g.stride_w, g.pad_h,  g.pad_w, g.dilation_h, g.dilation_w};
  const std::lock_guard<std::mutex> lock(mutex);
  if (auto table = tables[key].lock()) return table;
  auto table = std::make_shared<const OffsetTable>(make_table(g));
  // Models that see many shapes must not fill the map with tables that nobody uses any more.
  for (auto it = tables.begin(); tables.size() > kMostTables && it != tables.end();) {
    it = it->second.expired() ? tables.erase(it) : std::next(it);
  }
  tables[key] = table;
  return table;
}

}  // namespace tsquant::kernels
