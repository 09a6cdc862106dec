#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "algorithm_specs.h"
#include "compression/compressed_weight.h"
#include "compression/input_moments.h"
#include "numerics/formats.h"

namespace tsquant::testing {

/// A layer whose inputs are correlated, as those of real ones are: a few directions hold most of their energy, channels
/// differ in size, and their mean is not 0.
struct CorrelatedLayer {
  at::Tensor weight;            ///< [outputs, inputs]
  at::Tensor rows, other_rows;  ///< of inputs: for calibration, and held out
  at::Tensor hessian;           ///< of `rows`
  InputMoments moments, held_out;

  CorrelatedLayer(int64_t outputs, int64_t inputs, int64_t count = 1000, uint64_t seed = 1) {
    at::manual_seed(seed);
    // Compilers would draw the numbers of one expression in different orders.
    const auto values = at::randn({outputs, inputs});
    const auto sizes = at::exp(at::randn({outputs, 1}) * 0.3);
    weight = values * sizes;
    const auto mix = at::randn({inputs, inputs}) / at::arange(1, inputs + 1, at::kFloat).sqrt().reshape({-1, 1});
    const auto channels = at::exp(at::randn({inputs}) * 0.5);
    const auto mean = at::randn({inputs}) * 0.3;
    rows = (at::mm(at::randn({count, inputs}), mix) + mean) * channels;
    other_rows = (at::mm(at::randn({count, inputs}), mix) + mean) * channels;
    moments.add(rows);
    held_out.add(other_rows);
    hessian = moments.hessian();
  }

  /// tr((W - Q) H (W - Q)^T) in float64.
  double objective(const at::Tensor& values, const at::Tensor& h) const {
    const auto difference = weight.to(at::kDouble) - values.to(at::kDouble);
    return (at::mm(difference, h.to(at::kDouble)) * difference).sum().item<double>();
  }
  double objective(const at::Tensor& values) const { return objective(values, hessian); }
};

inline QuantizationSpec group_spec(Format format, int64_t group_size, bool asymmetric = false) {
  QuantizationSpec spec;
  spec.format = format;
  spec.group_size = group_size;
  if (asymmetric) spec.mode = QuantizationScheme::kAsymmetric;
  return spec;
}

/// Every format of the table in groups, integers of both kinds, and one per channel.
inline std::vector<QuantizationSpec> every_spec() {
  auto specs = group_specs(8);
  QuantizationSpec channels;
  channels.format = Format::kInt4;
  channels.per_channel = true;
  specs.push_back(channels);
  return specs;
}

/// What a call returns on this many threads.
template <typename Call>
auto on_threads(int threads, const Call& call) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  auto result = call();
  at::set_num_threads(before);
  return result;
}

inline bool same_bits(const CompressedWeight& a, const CompressedWeight& b) {
  return at::equal(a.codes, b.codes) && at::equal(a.qparams.scale, b.qparams.scale) &&
         at::equal(a.qparams.zero_point, b.qparams.zero_point);
}

/// Whether the format can hold the parameters, and codes are codes.
inline void expect_valid(const CompressedWeight& compressed) {
  const QParams& q = compressed.qparams;
  const FormatInfo& info = format_info(q.format);
  EXPECT_TRUE(at::isfinite(decompress(compressed)).all().item<bool>());
  EXPECT_EQ(compressed.codes.scalar_type(), q.dtype);
  if (info.integer) {
    EXPECT_GE(compressed.codes.min().item<int64_t>(), q.quant_min);
    EXPECT_LE(compressed.codes.max().item<int64_t>(), q.quant_max);
  }
  EXPECT_TRUE(at::isfinite(q.scale).all().item<bool>());
  if (info.integer && q.dtype == c10::kChar) {
    EXPECT_TRUE((q.scale != 0).all().item<bool>());
  } else {
    EXPECT_GT(q.scale.min().item<float>(), 0);
  }
  if (info.scale == ScaleFormat::kPowerOfTwo) EXPECT_TRUE(at::equal(at::exp2(at::round(at::log2(q.scale))), q.scale));
  if (info.scale == ScaleFormat::kE4M3) {
    EXPECT_TRUE(at::equal(decode(encode(q.scale, Format::kF8E4M3), Format::kF8E4M3), q.scale));
  }
  EXPECT_TRUE((q.zero_point == 0).logical_or(q.zero_point >= q.quant_min).all().item<bool>());
  EXPECT_TRUE((q.zero_point <= q.quant_max).all().item<bool>());
}

}  // namespace tsquant::testing
