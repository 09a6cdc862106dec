#include "lowering/engines/memory_layout.h"

#include <algorithm>
#include <numeric>

namespace tsquant {

namespace {

const std::vector<int64_t>& channels_last() {
  static const std::vector<int64_t> order = {0, 2, 3, 1};
  return order;
}

const std::vector<int64_t>& channels_last_3d() {
  static const std::vector<int64_t> order = {0, 2, 3, 4, 1};
  return order;
}

std::vector<int64_t> order_of(const at::Tensor& tensor) {
  const auto format = tensor.suggest_memory_format();
  if (format == at::MemoryFormat::ChannelsLast) return channels_last();
  if (format == at::MemoryFormat::ChannelsLast3d) return channels_last_3d();
  std::vector<int64_t> order(static_cast<size_t>(tensor.dim()));
  std::iota(order.begin(), order.end(), 0);
  if (tensor.is_contiguous()) return order;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return tensor.stride(a) > tensor.stride(b); });
  return order;
}

/// Whether no element stands between those of the tensor.
bool is_packed(const at::Tensor& tensor, const std::vector<int64_t>& order) {
  int64_t expected = 1;
  for (auto dim = order.rbegin(); dim != order.rend(); ++dim) {
    if (tensor.size(*dim) != 1 && tensor.stride(*dim) != expected) return false;
    expected *= tensor.size(*dim);
  }
  return true;
}

}  // namespace

c10::optional<at::MemoryFormat> MemoryLayout::format() const {
  if (std::is_sorted(order.begin(), order.end())) return at::MemoryFormat::Contiguous;
  if (order == channels_last()) return at::MemoryFormat::ChannelsLast;
  if (order == channels_last_3d()) return at::MemoryFormat::ChannelsLast3d;
  return c10::nullopt;
}

MemoryLayout layout_of(const at::Tensor& tensor) {
  MemoryLayout layout;
  if (!tensor.has_storage() || tensor.layout() != at::kStrided) return layout;
  layout.order = order_of(tensor);
  layout.whole =
      tensor.storage_offset() == 0 && is_packed(tensor, layout.order) &&
      tensor.numel() * static_cast<int64_t>(tensor.itemsize()) == static_cast<int64_t>(tensor.storage().nbytes());
  return layout;
}

}  // namespace tsquant
