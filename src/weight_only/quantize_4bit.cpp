#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <array>

#include "numerics/formats.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"

namespace tsquant {

namespace {

constexpr int64_t kGrain = 16384;

Format format_of_levels(const std::string& dtype) {
  if (dtype == "nf4") return Format::kNf4;
  return dtype == "fp4_e2m1" ? Format::kIncFp4E2M1 : Format::kIncFp4Bnb;
}

/// The codec's code of each level.
std::vector<uint8_t> codec_codes(const std::vector<double>& levels, Format format) {
  const auto codes = encode(at::tensor(levels, at::kDouble), format);
  return {codes.data_ptr<uint8_t>(), codes.data_ptr<uint8_t>() + codes.numel()};
}

/// The codec's codes of x: the level whose middle to the next is the first that is not below x; zero for NaN.
///
/// Its middles are float32. Neural Compressor rounds them to the dtype of x: a bfloat16 may lie on such a middle that
/// it does not quite reach.
at::Tensor encode_levels(const at::Tensor& x, const std::vector<double>& levels, Format format) {
  if (x.scalar_type() == at::kFloat) return encode(x, format);
  std::vector<double> middles;
  for (size_t i = 1; i < levels.size(); ++i) middles.push_back((levels[i - 1] + levels[i]) / 2);
  const auto limits = at::tensor(middles, at::kDouble).to(x.scalar_type()).to(at::kDouble);
  const auto index = at::bucketize(x.to(at::kDouble).contiguous(), limits, /*out_int32=*/true);
  const auto codes = at::tensor(codec_codes(levels, format), at::kByte).index_select(0, index.flatten());
  const auto zero = encode(at::zeros({1}), format).item<int64_t>();
  return codes.view_as(index).masked_fill_(x.isnan(), zero);
}

/// For each x the entry of `results` for its level.
template <typename Number>
at::Tensor look_up(const at::Tensor& x, const std::string& dtype, const std::vector<Number>& results) {
  const auto& levels = float_mapping(dtype);
  const Format format = format_of_levels(dtype);
  const auto level_codes = codec_codes(levels, format);
  std::array<float, 256> result_of{};
  for (size_t i = 0; i < levels.size(); ++i) result_of[level_codes[i]] = static_cast<float>(results[i]);
  const auto codes = encode_levels(x, levels, format);
  auto values = at::empty(codes.sizes(), at::TensorOptions(at::kFloat));
  const auto* from = codes.data_ptr<uint8_t>();
  auto* to = values.data_ptr<float>();
  at::parallel_for(0, codes.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = result_of[from[i]];
  });
  return values;
}

void check_scale(const at::Tensor& scale, const at::Tensor& tensor) {
  if (scale.defined() && scale.is_floating_point() && at::is_expandable_to(scale.sizes(), tensor.sizes())) return;
  throw Error(ErrorCode::kInvalidArgument, "the scale does not broadcast over the tensor", "scale",
              fmt::format("give a floating-point tensor [{}, 1]", tensor.size(0)));
}

}  // namespace

QuantizedWeight quantize_4bit(const at::Tensor& tensor, double quantile, const std::string& dtype, bool return_int,
                              const c10::optional<at::Tensor>& scale, bool double_quant) {
  const auto& levels = float_mapping(dtype);
  check_matrix(tensor, "tensor");
  check_quantile(quantile);
  if (scale) check_scale(*scale, tensor);
  const at::NoGradGuard no_grad;
  const auto s = scale ? *scale : tensor.abs().amax(1, true) * quantile / levels.back();
  tensor.div_(s);
  tensor.copy_(return_int ? look_up(tensor, dtype, int_mapping(dtype)) : look_up(tensor, dtype, levels));
  if (return_int || double_quant) return {tensor, s};
  return {tensor.mul_(s)};
}

}  // namespace tsquant
