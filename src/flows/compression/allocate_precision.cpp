#include "flows/compression/allocate_precision.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/allocate_bits.h"
#include "compression/layer_error.h"
#include "compression/round_to_nearest.h"
#include "flows/compression/layer_inputs.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// 2, 3 and 4 bits as the primary precision has them, and the backup precision.
std::vector<QuantizationSpec> choices_of(const WeightLayer& layer) {
  std::vector<QuantizationSpec> choices;
  for (const int64_t bits : {2, 3, 4}) {
    QuantizationSpec spec = layer.point->spec;
    spec.format = integer_format(bits);
    choices.push_back(spec);
  }
  if (layer.point->compression->backup) choices.push_back(*layer.point->compression->backup);
  return choices;
}

double error_of(const WeightLayer& layer, const QuantizationSpec& spec) {
  const at::Tensor weight = layer.weight.to(at::kFloat);
  const at::Tensor values = decompress(round_to_nearest(weight, spec));
  const LayerSamples samples = layer.is_matrix() && layer.channel_axis == -1 ? samples_of(layer) : LayerSamples();
  if (samples.size() > 0) {
    const int64_t outputs = spec.group_size > 0 ? 1 - at::maybe_wrap_dim(spec.group_axis, 2) : spec.ch_axis;
    const auto rows = [&](const at::Tensor& x) { return outputs == 0 ? x : x.t(); };
    return error_by_inputs(rows(weight), rows(values), samples.inputs(samples.size()));
  }
  const double size = weight.square().sum(at::kDouble).item<double>();
  return size > 0 ? (weight - values).square().sum(at::kDouble).item<double>() / size : 0;
}

}  // namespace

int64_t compressed_bytes(const at::Tensor& weight, const QuantizationSpec& spec) {
  const int64_t values = weight.numel();
  const int64_t scales = spec.group_size > 0 ? values / spec.group_size
                         : spec.per_channel  ? weight.size(spec.ch_axis)
                                             : 1;
  const int64_t bits = format_info(spec.format).bits;
  const bool zero_points = format_info(spec.format).integer && spec.mode == QuantizationScheme::kAsymmetric;
  return (values * bits + 7) / 8 + scales * 2 + (zero_points ? (scales * bits + 7) / 8 : 0);
}

void allocate_precision(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, int64_t float_bytes) {
  std::vector<WeightLayer*> chosen;
  std::vector<std::vector<BitChoice>> choices;
  int64_t other_bytes = float_bytes, values = 0, smallest = 0;
  for (WeightLayer& layer : layers) {
    other_bytes -= layer.record.float_bytes;
    if (!layer.ratio_defining()) {
      other_bytes += layer.in_float ? layer.record.float_bytes : compressed_bytes(layer.weight, layer.spec);
      continue;
    }
    std::vector<BitChoice> of_layer;
    for (const auto& spec : choices_of(layer)) {
      of_layer.push_back({compressed_bytes(layer.weight, spec), error_of(layer, spec)});
    }
    smallest += std::min_element(of_layer.begin(), of_layer.end(), [](const auto& a, const auto& b) {
                  return a.bytes < b.bytes;
                })->bytes;
    values += layer.weight.numel();
    chosen.push_back(&layer);
    choices.push_back(std::move(of_layer));
  }
  const bool by_size = options.target_size.has_value();
  const int64_t budget =
      by_size ? static_cast<int64_t>(*options.target_size * static_cast<double>(float_bytes)) - other_bytes
              : static_cast<int64_t>(*options.target_bits_per_weight * static_cast<double>(values) / 8);
  if (budget < smallest) {
    const double reach = by_size
                             ? static_cast<double>(smallest + other_bytes) / static_cast<double>(float_bytes)
                             : 8 * static_cast<double>(smallest) / static_cast<double>(std::max<int64_t>(1, values));
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the target is out of reach: the smallest is {:.4f}", reach),
                by_size ? "target_size" : "target_bits_per_weight",
                "ask for more, or let all_layers and larger groups have fewer bits");
  }
  const BitAllocation allocation = allocate_bits(choices, budget);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto specs = choices_of(*chosen[i]);
    chosen[i]->spec = specs[allocation.choices[i]];
    chosen[i]->in_backup = allocation.choices[i] == 3;
    chosen[i]->record.score = choices[i][allocation.choices[i]].error;
  }
}

}  // namespace tsquant
