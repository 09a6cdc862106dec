#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/code_tensor.h"
#include "kernels/images.h"
#include "kernels/pooling.h"

namespace tsquant::kernels {
namespace {

/// LibTorch's rule for `nearest` without scale factors, in single precision.
std::vector<int64_t> nearest(int64_t in, int64_t out) {
  std::vector<int64_t> sources(static_cast<size_t>(out));
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  for (int64_t o = 0; o < out; ++o) {
    const auto source = static_cast<int64_t>(std::floor(static_cast<float>(o) * scale));
    sources[static_cast<size_t>(o)] = std::min(source, in - 1);
  }
  return sources;
}

}  // namespace

at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef output_size) {
  const auto rank = static_cast<int64_t>(output_size.size());
  const Images images(x, rank, "upsample_nearest");
  check_list(output_size, rank, 1, "upsample_nearest", "output_size");
  const ImageSizes& in = images.sizes();
  std::array<int64_t, 3> out = {1, 1, 1};
  std::copy(output_size.begin(), output_size.end(), out.end() - rank);
  const auto depth = nearest(in.spatial[0], out[0]), height = nearest(in.spatial[1], out[1]),
             width = nearest(in.spatial[2], out[2]);
  return images.result(out, x.q_scale(), x.q_zero_point(), [&](uint8_t* codes) {
    const int64_t line = out[2] * in.channels;
    at::parallel_for(
        0, in.batch * out[0] * out[1], std::max<int64_t>(1, kGrain / line), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t z = depth[static_cast<size_t>(i / out[1] % out[0])],
                          y = height[static_cast<size_t>(i % out[1])];
            const int64_t n = i / (out[0] * out[1]);
            const uint8_t* from =
                images.codes() + ((n * in.spatial[0] + z) * in.spatial[1] + y) * in.spatial[2] * in.channels;
            for (int64_t o = 0; o < out[2]; ++o) {
              std::memcpy(codes + i * line + o * in.channels, from + width[static_cast<size_t>(o)] * in.channels,
                          static_cast<size_t>(in.channels));
            }
          }
        });
  });
}

}  // namespace tsquant::kernels
