#include "compression/scale_search.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>
#include <functional>

#include "algorithm_specs.h"
#include "compression/round_to_nearest.h"
#include "compression_golden.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

/// Rows of different scales, with outliers, and inputs of different importance.
at::Tensor outlier_weight() {
  at::manual_seed(4);
  const auto base = at::randn({12, 128}) * at::pow(at::full({12, 1}, 1.7), at::arange(12).reshape({12, 1}));
  return base * (1 + 4 * (at::rand({12, 128}) > 0.98).to(at::kFloat));
}

at::Tensor input_importance() {
  at::manual_seed(5);
  return at::exp(at::randn({128}) * 2);
}

/// Objective of each group, [12, 128 / size].
at::Tensor group_errors(const at::Tensor& weight, const CompressedWeight& compressed, const at::Tensor& importance) {
  const auto difference = decompress(compressed).to(at::kDouble) - weight.to(at::kDouble);
  return (difference.square() * importance).reshape({12, 128 / compressed.qparams.group_size, -1}).sum(2);
}

TEST(ScaleSearch, NoGroupGetsWorseAndTheWeightGetsBetterInEveryFormat) {
  const auto weight = outlier_weight(), importance = input_importance().to(at::kDouble);
  for (const auto& spec : group_specs(8)) {
    SCOPED_TRACE(to_string(spec.format));
    const auto plain = round_to_nearest(weight, spec), found = search_scales(weight, spec, importance);
    const auto before = group_errors(weight, plain, importance), after = group_errors(weight, found, importance);
    EXPECT_TRUE((after <= before * 1.000001 + 1e-12).all().item<bool>());
    EXPECT_LT(after.sum().item<double>(), before.sum().item<double>());
    EXPECT_NEAR(weighted_error(weight, found, importance), after.sum().item<double>(),
                1e-6 * after.sum().item<double>());
    if (format_info(spec.format).integer && format_info(spec.format).bits <= 4) {
      EXPECT_LT(after.sum().item<double>(), 0.85 * before.sum().item<double>());
    }
    ASSERT_EQ(found.codes.sizes(), weight.sizes());
    EXPECT_EQ(found.codes.scalar_type(), plain.codes.scalar_type());
  }
}

TEST(ScaleSearch, FindsScalesThatTheFormatCanStore) {
  const auto weight = outlier_weight();
  for (const auto& spec : group_specs(8)) {
    SCOPED_TRACE(to_string(spec.format));
    const QParams q = search_scales(weight, spec, input_importance()).qparams;
    const FormatInfo& info = format_info(spec.format);
    if (info.scale == ScaleFormat::kPowerOfTwo) {
      EXPECT_TRUE(at::equal(at::exp2(at::round(at::log2(q.scale))), q.scale));
    }
    if (info.scale == ScaleFormat::kE4M3) {
      EXPECT_TRUE(at::equal(decode(encode(q.scale, Format::kF8E4M3), Format::kF8E4M3), q.scale));
    }
    if (!info.integer) EXPECT_GT(q.scale.min().item<float>(), 0);
    EXPECT_TRUE((q.zero_point >= q.quant_min).logical_or(q.zero_point == 0).all().item<bool>());
    EXPECT_TRUE((q.zero_point <= q.quant_max).all().item<bool>());
  }
}

/// The best objective over a fine grid of scales of both signs, and all zero points.
double best_on_a_grid(const at::Tensor& weight, const at::Tensor& importance, bool asymmetric) {
  double best = INFINITY;
  const double largest = weight.abs().max().item<double>();
  const int low = asymmetric ? 0 : -2, high = asymmetric ? 3 : 1;
  for (int i = 1; i <= 1000; ++i) {
    for (const double sign : {1.0, -1.0}) {
      const double scale = sign * largest * i / 500;
      for (int zero = low; zero <= (asymmetric ? high : low); ++zero) {
        const double shift = asymmetric ? zero : 0;
        const auto codes = at::round(weight.to(at::kDouble) / scale + shift).clamp(low, high);
        const auto error = ((codes - shift) * scale - weight).square() * importance;
        best = std::min(best, error.sum().item<double>());
      }
    }
  }
  return best;
}

TEST(ScaleSearch, ComesCloseToTheBestOfAFineGrid) {
  for (const bool asymmetric : {false, true}) {
    double found = 0, best = 0, plain = 0;
    for (int seed = 0; seed < 5; ++seed) {
      at::manual_seed(seed);
      const auto weight = at::randn({1, 16}), importance = at::rand({16}).to(at::kDouble) + 0.1;
      QuantizationSpec spec;
      spec.format = Format::kInt2;
      spec.group_size = 16;
      if (asymmetric) spec.mode = QuantizationScheme::kAsymmetric;
      found += weighted_error(weight, search_scales(weight, spec, importance), importance);
      plain += weighted_error(weight, round_to_nearest(weight, spec), importance);
      best += best_on_a_grid(weight, importance, asymmetric);
    }
    EXPECT_LT(found, 1.05 * best) << asymmetric;
    EXPECT_LT(found, plain);
  }
}

/// Inputs of a layer with the weight `w`, in rows.
struct Layer {
  at::Tensor weight, inputs;

  Layer() {
    auto module = torch::jit::load(data_file("compression/layer.pt"));
    weight = module.attr("x0").toTensor();
    std::vector<at::Tensor> parts;
    for (int i = 1; i <= 8; ++i) {
      const auto x = module.attr("x" + std::to_string(i)).toTensor();
      parts.push_back(x.reshape({-1, x.size(-1)}));
    }
    inputs = at::cat(parts);
  }

  /// Error of the layer's output relative to its size.
  double output_error(const at::Tensor& values) const {
    const auto expected = at::linear(inputs, weight);
    return ((at::linear(inputs, values) - expected).square().sum() / expected.square().sum()).item<double>();
  }
};

// Judged by the outputs of a layer on NNCF's own reference data, not by the objective of the search.
TEST(ScaleSearch, MakesOutputsOfALayerBetterThanNncfsScaleEstimation) {
  const CompressionGolden golden("scale_estimation");
  const Layer layer;
  const auto importance = layer.inputs.square().mean(0);
  int compared = 0;
  for (const auto& c : golden.cases) {
    const std::string key = c["key"];
    SCOPED_TRACE(key);
    auto spec = spec_of_mode(c["mode"], c["group_size"], 1);
    auto nncf = round_to_nearest(layer.weight, spec);
    const double plain = layer.output_error(decompress(nncf));
    nncf.qparams.scale = golden.arrays.at(key + "/scale").reshape(nncf.qparams.scale.sizes());
    nncf.codes = quantize(layer.weight, nncf.qparams);
    const double estimated = layer.output_error(decompress(nncf));
    const double found = layer.output_error(decompress(search_scales(layer.weight, spec, importance)));
    EXPECT_LT(estimated, plain);
    EXPECT_LT(found, 0.95 * estimated);
    ++compared;
  }
  EXPECT_GT(compared, 8);
}

TEST(ScaleSearch, FavoursWhatIsImportant) {
  const auto weight = outlier_weight(), importance = input_importance();
  QuantizationSpec spec;
  spec.format = Format::kInt3;
  spec.group_size = 32;
  const auto weighted = search_scales(weight, spec, importance), plain = search_scales(weight, spec);
  EXPECT_LT(weighted_error(weight, weighted, importance), 0.95 * weighted_error(weight, plain, importance));
  EXPECT_LT(weighted_error(weight, plain), weighted_error(weight, weighted));
  EXPECT_LT(weighted_error(weight, plain), weighted_error(weight, round_to_nearest(weight, spec)));
}

TEST(ScaleSearch, KnowsEveryAxis) {
  const auto weight = outlier_weight(), importance = input_importance();
  QuantizationSpec along, across, channels;
  along.format = across.format = channels.format = Format::kInt4;
  along.group_size = across.group_size = 32;
  across.group_axis = 0;
  channels.per_channel = true;
  const auto a = search_scales(weight, along, importance);
  const auto b = search_scales(weight.t(), across, importance.reshape({128, 1}));
  EXPECT_TRUE(at::equal(a.codes, b.codes.t()));
  EXPECT_TRUE(at::equal(a.qparams.scale, b.qparams.scale.t()));
  const auto c = search_scales(weight, channels, importance);
  along.group_size = 128;
  const auto d = search_scales(weight, along, importance);
  EXPECT_TRUE(at::equal(c.codes, d.codes));
  EXPECT_TRUE(at::equal(c.qparams.scale, d.qparams.scale.flatten()));
  channels.ch_axis = 1;
  const auto e = search_scales(weight.t(), channels, importance.reshape({128, 1}));
  EXPECT_TRUE(at::equal(e.codes.t(), c.codes));
}

TEST(ScaleSearch, ZeroGroupsAndZeroImportanceStayAsTheyWere) {
  auto weight = outlier_weight();
  weight.narrow(1, 32, 32).zero_();
  for (const auto& spec : group_specs(8)) {
    SCOPED_TRACE(to_string(spec.format));
    const auto plain = round_to_nearest(weight, spec);
    const auto found = search_scales(weight, spec, at::zeros({128}));
    EXPECT_TRUE(at::isfinite(found.qparams.scale).all().item<bool>());
    EXPECT_EQ(decompress(search_scales(weight, spec)).narrow(1, 32, 32).abs().max().item<float>(),
              decompress(plain).narrow(1, 32, 32).abs().max().item<float>());
    if (format_info(spec.format).scale != ScaleFormat::kE4M3) {
      EXPECT_TRUE(at::equal(found.qparams.scale, plain.qparams.scale));
    }
  }
}

TEST(ScaleSearch, ThreadsDoNotMatter) {
  const auto weight = outlier_weight();
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.group_size = 32;
  const int threads = at::get_num_threads();
  const auto many = search_scales(weight, spec, input_importance());
  at::set_num_threads(1);
  const auto one = search_scales(weight, spec, input_importance());
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(many.codes, one.codes));
  EXPECT_TRUE(at::equal(many.qparams.scale, one.qparams.scale));
}

TEST(ScaleSearch, RefusesWrongArguments) {
  const auto weight = outlier_weight();
  QuantizationSpec spec;
  spec.per_channel = true;
  const auto message_of = [&](const at::Tensor& importance, const ScaleSearchOptions& options) {
    try {
      search_scales(weight, spec, importance, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message_of({}, {1, 1}), "");
  EXPECT_NE(message_of({}, {0, 0.5}).find("a search of 0 steps"), std::string::npos);
  EXPECT_NE(message_of({}, {10, 0}).find("down to 0"), std::string::npos);
  EXPECT_NE(message_of({}, {10, 1.5}).find("down to 1.5"), std::string::npos);
  EXPECT_NE(message_of(at::full({128}, -1.0), {}).find("negative"), std::string::npos);
  EXPECT_NE(message_of(at::full({128}, NAN), {}).find("NaN"), std::string::npos);
  EXPECT_NE(message_of(at::ones({64}), {}).find("shape [64] does not fit a weight of shape [12, 128]"),
            std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
