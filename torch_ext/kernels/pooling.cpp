#include "kernels/pooling.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/byte_loops.h"
#include "kernels/code_tensor.h"
#include "kernels/images.h"
#include "ops/quantize_kernels.h"

namespace tsquant::kernels {
namespace {

/// The input positions that one output position reads along one dimension: begin, begin + step, ... < end. `counted` is
/// the number that an average divides by when the padding counts.
struct Window {
  int64_t begin = 0, end = 0, step = 1, counted = 0;
  int64_t size() const { return begin < end ? (end - begin + step - 1) / step : 0; }
};
using Axis = std::vector<Window>;
using Axes = std::array<Axis, 3>;

struct PoolLists {
  at::IntArrayRef kernel, stride, padding, dilation;
  bool ceil_mode;
};

/// LibTorch's rule: in ceil mode a last window may start inside the input or its left padding only.
int64_t output_size(int64_t in, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, bool ceil_mode) {
  const int64_t room = in + 2 * padding - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  const int64_t size = room / stride + 1;
  return ceil_mode && (size - 1) * stride >= in + padding ? size - 1 : size;
}

Axis pool_axis(int64_t in, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, bool ceil_mode,
               const char* name) {
  const int64_t out = output_size(in, kernel, stride, padding, dilation, ceil_mode);
  TORCH_CHECK(out > 0, "tsquant::", name, ": a window of ", kernel, " with dilation ", dilation,
              " does not fit into an input of ", in, " with padding ", padding);
  Axis axis(static_cast<size_t>(out));
  for (int64_t o = 0; o < out; ++o) {
    Window& w = axis[static_cast<size_t>(o)];
    w.step = dilation;
    w.begin = o * stride - padding;
    w.end = w.begin + dilation * (kernel - 1) + 1;
    w.counted = std::min(w.end, in + padding) - w.begin;
    if (w.begin < 0) w.begin += (-w.begin + dilation - 1) / dilation * dilation;
    w.end = std::min(w.end, in);
  }
  return axis;
}

/// Checks the lists; missing dimensions get windows of one.
Axes pool_axes(const ImageSizes& sizes, const PoolLists& lists, const char* name) {
  const auto rank = static_cast<int64_t>(lists.kernel.size());
  const at::IntArrayRef stride = lists.stride.empty() ? lists.kernel : lists.stride;
  check_list(lists.kernel, rank, 1, name, "kernel_size");
  check_list(stride, rank, 1, name, "stride");
  check_list(lists.padding, rank, 0, name, "padding");
  check_list(lists.dilation, rank, 1, name, "dilation");
  Axes axes;
  for (size_t d = 0; d < 3; ++d) {
    if (static_cast<int64_t>(d) < 3 - rank) {
      axes[d] = {Window{0, 1, 1, 1}};
      continue;
    }
    const size_t k = d - (3 - lists.kernel.size());
    TORCH_CHECK(lists.padding[k] <= lists.kernel[k] / 2, "tsquant::", name,
                ": the padding may be at most half of the kernel size, they are ", lists.padding, " and ",
                lists.kernel);
    axes[d] = pool_axis(sizes.spatial[d], lists.kernel[k], stride[k], lists.padding[k], lists.dilation[k],
                        lists.ceil_mode, name);
  }
  return axes;
}

std::array<int64_t, 3> lengths(const Axes& axes) {
  return {static_cast<int64_t>(axes[0].size()), static_cast<int64_t>(axes[1].size()),
          static_cast<int64_t>(axes[2].size())};
}

/// The windows of one output pixel.
struct PixelWindow {
  const Window &depth, &height, &width;
};

/// For every output pixel: collects the pixels of its window and calls compute(rows, count, window, out).
template <class Compute>
void for_each_pixel(const Images& images, const Axes& axes, uint8_t* out, const Compute& compute) {
  const ImageSizes& in = images.sizes();
  const auto sizes = lengths(axes);
  const int64_t channels = in.channels, line = sizes[2] * channels;
  const Window &d0 = axes[0][axes[0].size() / 2], &h0 = axes[1][axes[1].size() / 2], &w0 = axes[2][axes[2].size() / 2];
  const int64_t work = line * std::max<int64_t>(1, d0.size() * h0.size() * w0.size());
  const int64_t grain = std::max<int64_t>(1, kGrain * 4 / std::max<int64_t>(work, 1));
  at::parallel_for(0, in.batch * sizes[0] * sizes[1], grain, [&](int64_t begin, int64_t end) {
    std::vector<const uint8_t*> rows;
    for (int64_t i = begin; i < end; ++i) {
      const Window& h = axes[1][static_cast<size_t>(i % sizes[1])];
      const Window& d = axes[0][static_cast<size_t>(i / sizes[1] % sizes[0])];
      const uint8_t* image = images.codes() + i / (sizes[0] * sizes[1]) * in.pixels() * channels;
      for (int64_t o = 0; o < sizes[2]; ++o) {
        const Window& w = axes[2][static_cast<size_t>(o)];
        rows.clear();
        for (int64_t z = d.begin; z < d.end; z += d.step) {
          for (int64_t y = h.begin; y < h.end; y += h.step) {
            const uint8_t* first = image + (z * in.spatial[1] + y) * in.spatial[2] * channels;
            for (int64_t x = w.begin; x < w.end; x += w.step) rows.push_back(first + x * channels);
          }
        }
        compute(rows.data(), static_cast<int64_t>(rows.size()), PixelWindow{d, h, w}, out + i * line + o * channels);
      }
    }
  });
}

AverageParams average_params(const at::Tensor& x, double scale, int64_t zero_point) {
  AverageParams p;
  p.is_signed = is_signed(x.scalar_type());
  p.scale = static_cast<float>(x.q_scale());
  p.in_zero_point = static_cast<int32_t>(x.q_zero_point());
  p.inverse_out = inverse_scale(scale);
  p.zero_point = static_cast<int32_t>(zero_point);
  p.low = lowest_code(x.scalar_type());
  p.high = highest_code(x.scalar_type());
  return p;
}

/// Along one dimension the window of output `o` covers [floor(o * in / out), ceil((o + 1) * in / out)).
Axis adaptive_axis(int64_t in, int64_t out) {
  Axis axis(static_cast<size_t>(out));
  for (int64_t o = 0; o < out; ++o) {
    Window& w = axis[static_cast<size_t>(o)];
    w.begin = o * in / out;
    w.end = ((o + 1) * in + out - 1) / out;
    w.counted = w.end - w.begin;
  }
  return axis;
}

}  // namespace

at::Tensor max_pool(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                    at::IntArrayRef dilation, bool ceil_mode) {
  const Images images(x, static_cast<int64_t>(kernel_size.size()), "max_pool");
  const Axes axes = pool_axes(images.sizes(), {kernel_size, stride, padding, dilation, ceil_mode}, "max_pool");
  const bool with_sign = is_signed(x.scalar_type());
  const int64_t channels = images.sizes().channels;
  // A dilated window may lie in the padding alone; like LibTorch's -inf it takes the lowest code.
  const std::vector<uint8_t> lowest(static_cast<size_t>(channels), static_cast<uint8_t>(lowest_code(x.scalar_type())));
  const uint8_t* const nothing = lowest.data();
  return images.result(lengths(axes), x.q_scale(), x.q_zero_point(), [&](uint8_t* out) {
    for_each_pixel(images, axes, out,
                   [&](const uint8_t* const* rows, int64_t count, const PixelWindow&, uint8_t* pixel) {
                     if (count == 0) return max_of_rows(&nothing, 1, channels, with_sign, pixel);
                     max_of_rows(rows, count, channels, with_sign, pixel);
                   });
  });
}

at::Tensor avg_pool(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                    bool ceil_mode, bool count_include_pad, c10::optional<int64_t> divisor_override, double scale,
                    int64_t zero_point) {
  TORCH_CHECK(!divisor_override || *divisor_override != 0, "tsquant::avg_pool: the divisor must not be zero");
  const Images images(x, static_cast<int64_t>(kernel_size.size()), "avg_pool");
  check_target(scale, zero_point, x.scalar_type());
  const std::vector<int64_t> no_dilation(kernel_size.size(), 1);
  const Axes axes = pool_axes(images.sizes(), {kernel_size, stride, padding, no_dilation, ceil_mode}, "avg_pool");
  const AverageParams params = average_params(x, scale, zero_point);
  return images.result(lengths(axes), scale, zero_point, [&](uint8_t* out) {
    for_each_pixel(images, axes, out,
                   [&](const uint8_t* const* rows, int64_t count, const PixelWindow& w, uint8_t* pixel) {
                     AverageParams p = params;
                     const int64_t counted = w.depth.counted * w.height.counted * w.width.counted;
                     // A window in the padding alone is 0, whatever it is divided by.
                     const int64_t divisor = divisor_override ? *divisor_override : count_include_pad ? counted : count;
                     p.divisor[0] = count == 0 ? 1.0f : static_cast<float>(divisor);
                     average_of_rows(rows, count, images.sizes().channels, p, pixel);
                   });
  });
}

at::Tensor adaptive_avg_pool(const at::Tensor& x, at::IntArrayRef output_size, double scale, int64_t zero_point) {
  const auto rank = static_cast<int64_t>(output_size.size());
  const Images images(x, rank, "adaptive_avg_pool");
  check_target(scale, zero_point, x.scalar_type());
  check_list(output_size, rank, -1, "adaptive_avg_pool", "output_size");
  Axes axes;
  bool one = true;
  std::vector<int64_t> dims;
  for (size_t d = 0; d < 3; ++d) {
    const int64_t in = images.sizes().spatial[d], missing = 3 - rank, at = static_cast<int64_t>(d) - missing;
    const int64_t wanted = at < 0 ? 1 : output_size[static_cast<size_t>(at)];
    axes[d] = adaptive_axis(in, wanted < 0 ? in : wanted);
    one = one && axes[d].size() == 1;
    if (at >= 0) dims.push_back(at - rank);
  }
  if (one) return mean(x, dims, true, scale, zero_point);
  const AverageParams params = average_params(x, scale, zero_point);
  return images.result(lengths(axes), scale, zero_point, [&](uint8_t* out) {
    for_each_pixel(images, axes, out,
                   [&](const uint8_t* const* rows, int64_t count, const PixelWindow& w, uint8_t* pixel) {
                     AverageParams p = params;
                     // LibTorch divides once in one and two dimensions, and by each length in three.
                     p.divisions = rank == 3 ? 3 : 1;
                     p.divisor[0] = static_cast<float>(rank == 3 ? w.depth.counted : count);
                     p.divisor[1] = static_cast<float>(w.height.counted);
                     p.divisor[2] = static_cast<float>(w.width.counted);
                     average_of_rows(rows, count, images.sizes().channels, p, pixel);
                   });
  });
}

at::Tensor adaptive_avg_pool_float(const at::Tensor& x, at::IntArrayRef output_size) {
  const auto rank = static_cast<int64_t>(output_size.size());
  const Images images(x, rank, "adaptive_avg_pool_float");
  if (std::all_of(output_size.begin(), output_size.end(), [](int64_t size) { return size == 1; })) {
    std::vector<int64_t> dims(output_size.size());
    std::iota(dims.begin(), dims.end(), -rank);
    return mean_float(x, dims, true);
  }
  const at::Tensor y = x.dequantize();
  if (rank == 1) return at::adaptive_avg_pool1d(y, output_size);
  return rank == 2 ? at::adaptive_avg_pool2d(y, output_size) : at::adaptive_avg_pool3d(y, output_size);
}

}  // namespace tsquant::kernels
