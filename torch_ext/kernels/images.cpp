#include "kernels/images.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/code_tensor.h"

namespace tsquant::kernels {
namespace {

/// The order [batch,] spatial..., channels of the dimensions [batch,] channels, spatial...
std::vector<int64_t> channels_last_order(int64_t dims, bool batched) {
  std::vector<int64_t> order(static_cast<size_t>(dims));
  std::iota(order.begin(), order.end(), 0);
  const auto channels = order.begin() + (batched ? 1 : 0);
  std::rotate(channels, channels + 1, order.end());
  return order;
}

bool is_channels_last(const at::Tensor& x, bool batched) {
  if (x.dim() >= 4 && batched) return x.suggest_memory_format() != at::MemoryFormat::Contiguous;
  const int64_t channels = batched ? 1 : 0;
  return x.size(channels) > 1 && x.stride(channels) == 1 && !x.is_contiguous();
}

}  // namespace

void check_list(at::IntArrayRef list, int64_t rank, int64_t least, const char* operator_name, const char* list_name) {
  TORCH_CHECK(static_cast<int64_t>(list.size()) == rank, "tsquant::", operator_name, ": ", list_name, " must have ",
              rank, " entries, it is ", list);
  for (const int64_t value : list) {
    TORCH_CHECK(value >= least && value <= std::numeric_limits<int32_t>::max(), "tsquant::", operator_name, ": ",
                list_name, " must lie between ", least, " and 2^31 - 1, it is ", list);
  }
}

Images::Images(const at::Tensor& x, int64_t rank, const char* name) : x_(x), rank_(rank) {
  TORCH_CHECK(rank >= 1 && rank <= 3, "tsquant::", name,
              ": there may be one to three spatial dimensions, the lists say ", rank);
  check_codes_of_either_type(x, (std::string("input of ") + name).c_str());
  TORCH_CHECK(x.dim() == rank + 1 || x.dim() == rank + 2, "tsquant::", name, ": the input must have ", rank + 1, " or ",
              rank + 2, " dimensions, it has the shape ", x.sizes());
  batched_ = x.dim() == rank + 2;
  const int64_t channels = batched_ ? 1 : 0;
  for (int64_t d = channels; d < x.dim(); ++d) {
    TORCH_CHECK(x.size(d) > 0, "tsquant::", name, ": only the batch may be empty, the input has the shape ", x.sizes());
  }
  channels_last_ = is_channels_last(x, batched_);
  sizes_.batch = batched_ ? x.size(0) : 1;
  sizes_.channels = x.size(channels);
  for (int64_t d = 0; d < rank; ++d) sizes_.spatial[static_cast<size_t>(3 - rank + d)] = x.size(channels + 1 + d);
  bytes_ = bytes_of(x).permute(channels_last_order(x.dim(), batched_)).contiguous();
}

at::Tensor Images::empty_result(const std::array<int64_t, 3>& spatial, double scale, int64_t zero_point) const {
  auto sizes = x_.sizes().vec();
  std::copy(spatial.end() - rank_, spatial.end(), sizes.end() - rank_);
  const auto strides =
      channels_last_ ? dense_strides(sizes, channels_last_order(x_.dim(), batched_)) : plain_strides(sizes);
  return empty_codes(sizes, strides, x_.scalar_type(), scale, zero_point);
}

at::Tensor Images::empty_images(const std::array<int64_t, 3>& spatial) const {
  return at::empty({sizes_.batch, spatial[0], spatial[1], spatial[2], sizes_.channels}, at::kByte);
}

void Images::copy_to_planes(const at::Tensor& images, const at::Tensor& result) const {
  bytes_of(result).view({images.size(0), images.size(4), -1}).copy_(images.flatten(1, 3).transpose(1, 2));
}

}  // namespace tsquant::kernels
