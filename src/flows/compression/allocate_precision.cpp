#include "flows/compression/allocate_precision.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/allocate_bits.h"
#include "compression/layer_error.h"
#include "compression/round_to_nearest.h"
#include "flows/compression/layer_inputs.h"
#include "io/file_mapping.h"
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

/// A weight with its precisions to choose from.
struct Choices {
  WeightLayer* layer;
  std::vector<QuantizationSpec> specs;
};

/// Whether outputs have scales of their own, so that some of them have the codes that they have among all.
bool has_scales_by_output(const at::Tensor& weight, const QuantizationSpec& spec, int64_t outputs) {
  if (spec.group_size > 0) return at::maybe_wrap_dim(spec.group_axis, weight.dim()) != outputs;
  return spec.per_channel && spec.ch_axis == outputs;
}

/// Sums over the outputs: of each choice's error, and of the weight itself.
struct ErrorSums {
  std::vector<double> errors;
  double total = 0;

  template <typename Energy>
  void add(const at::Tensor& weight, std::vector<PartRounding>& choices, const Energy& energy) {
    errors.resize(choices.size());
    for (size_t i = 0; i < choices.size(); ++i) {
      errors[i] += energy(decompress(choices[i].round(weight)).sub_(weight));
    }
    total += energy(weight);
  }
};

/// Errors float64 [choices], of their outputs where these were seen. Some outputs of the weight at a time, since what
/// is in between takes several times the memory.
LayerResult measure(const Choices& choices) {
  constexpr int64_t kPartValues = 1 << 17;
  const WeightLayer& layer = *choices.layer;
  const int64_t axis = output_axis(layer), outputs = layer.weight.size(axis);
  const bool seen = layer.is_matrix() && layer.channel_axis == -1 && layer.inputs;
  const at::Tensor inputs = seen ? layer.inputs->kept_rows() : at::Tensor();
  const auto energy = [&](const at::Tensor& x) {
    return inputs.defined() ? energy_by_inputs(axis == 1 ? x.t() : x, inputs) : energy_of_values(x);
  };
  const bool in_parts = std::all_of(choices.specs.begin(), choices.specs.end(), [&](const QuantizationSpec& spec) {
    return has_scales_by_output(layer.weight, spec, axis);
  });
  const int64_t values = std::max<int64_t>(1, layer.weight.numel());
  const int64_t step = in_parts ? std::max<int64_t>(1, kPartValues * outputs / values) : outputs;
  std::vector<PartRounding> roundings;
  for (const QuantizationSpec& spec : choices.specs) roundings.emplace_back(layer.weight, spec);
  ErrorSums sums;
  for (int64_t begin = 0; begin < outputs; begin += step) {
    const auto part = layer.weight.narrow(axis, begin, std::min(step, outputs - begin));
    sums.add(part.to(at::kFloat).contiguous(), roundings, energy);
    give_pages_back(layer.weight);
  }
  for (double& error : sums.errors) error = relative_error(error, sums.total);
  return {{at::tensor(sums.errors, at::kDouble)}};
}

std::vector<BitChoice> bit_choices(const Choices& choices, const at::Tensor& errors) {
  std::vector<BitChoice> result;
  for (size_t i = 0; i < choices.specs.size(); ++i) {
    result.push_back({compressed_bytes(choices.layer->weight, choices.specs[i]), errors.data_ptr<double>()[i]});
  }
  return result;
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

void allocate_precision(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, int64_t float_bytes,
                        RankGroup& ranks) {
  std::vector<Choices> chosen;
  std::vector<std::vector<BitChoice>> choices;
  std::vector<int64_t> sizes;
  int64_t other_bytes = float_bytes, values = 0, smallest = 0;
  FloatBytes floats;
  for (WeightLayer& layer : layers) {
    if (layer.in_float) continue;
    other_bytes -= floats.take(layer.weight);
    if (!layer.ratio_defining()) {
      other_bytes += compressed_bytes(layer.weight, layer.spec);
      continue;
    }
    values += layer.weight.numel();
    sizes.push_back(layer.weight.numel());
    chosen.push_back({&layer, choices_of(layer)});
  }
  ranks.share(
      sizes, [&](size_t i) { return measure(chosen[i]); },
      [&](size_t i, const LayerResult& result) {
        choices.push_back(bit_choices(chosen[i], result.tensors.at(0)));
        const auto& of_layer = choices.back();
        smallest += std::min_element(of_layer.begin(), of_layer.end(), [](const auto& a, const auto& b) {
                      return a.bytes < b.bytes;
                    })->bytes;
      });
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
    const size_t choice = allocation.choices[i];
    WeightLayer& layer = *chosen[i].layer;
    layer.in_backup = chosen[i].specs[choice] == layer.point->compression->backup;
    layer.spec = chosen[i].specs[choice];
    layer.record.score = choices[i][choice].error;
  }
}

}  // namespace tsquant
