#include "compression/adaptive_codebook.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "compression/layer_matrix.h"
#include "compression/round_to_nearest.h"
#include "compression/weighted_kmeans.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using Levels = std::vector<float>;

Levels start_levels(const AdaptiveCodebookParameters& p, const Levels& codebook) {
  const bool known = p.value_type == Format::kF8E4M3 || p.value_type == Format::kF8E5M2;
  if (!known || p.num_elements < 2 || p.num_elements > 16) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a codebook of {} levels of type {}", p.num_elements, to_string(p.value_type)),
                "adaptive_codebook_params", "give 2 to 16 levels of type f8e4m3 or f8e5m2");
  }
  if (codebook.empty()) return Levels(std::begin(kCb4Levels), std::end(kCb4Levels));
  check_codebook(codebook, 4);
  if (static_cast<int64_t>(codebook.size()) != p.num_elements) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("num_elements is {}, but the codebook has {} levels", p.num_elements, codebook.size()),
                "adaptive_codebook_params", "make them equal");
  }
  return codebook;
}

QuantizationSpec with_levels(QuantizationSpec spec, const Levels& levels) {
  spec.format = codebook_format(levels.size());
  spec.codebook = levels;
  return spec;
}

/// Levels that numbers of the type can be, ascending, each once.
template <typename Numbers>
Levels rounded_levels(const Numbers& numbers, Format type) {
  const auto values = at::tensor(std::vector<double>(numbers.begin(), numbers.end())).to(at::kFloat);
  const auto rounded = decode(encode(values, type), type) + 0.0;  // -0 becomes 0
  Levels levels(rounded.data_ptr<float>(), rounded.data_ptr<float>() + rounded.numel());
  std::sort(levels.begin(), levels.end());
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  return levels;
}

/// A layer and what its outputs should be.
struct CodebookTarget {
  LayerMatrix matrix;
  at::Tensor inputs;      ///< [inputs, samples]
  at::Tensor magnitudes;  ///< [inputs]
  at::Tensor outputs;     ///< W X

  CodebookTarget(const CodebookLayer& layer, const QuantizationSpec& spec)
      : matrix(layer.weight, spec, "adaptive_codebook"),
        inputs(layer.samples->inputs(std::max<int64_t>(layer.samples->size(), 1))),
        magnitudes(layer.samples->magnitudes()) {
    matrix.check_channels(inputs.size(0));
    outputs = at::mm(matrix.weight(), inputs);
  }

  at::Tensor values_with(const Levels& levels) const {
    return decompress(round_to_nearest(matrix.weight(), with_levels(matrix.spec(), levels)));
  }

  double error_with(const Levels& levels) const {
    const auto difference = at::mm(values_with(levels), inputs) - outputs;
    return (inputs.abs().mean() * difference.abs().mean()).item<double>();
  }
};

/// Weights in units of the levels that the codebook starts with.
at::Tensor normalised(const LayerMatrix& matrix, double largest_level) {
  const auto groups = matrix.weight().reshape({matrix.outputs(), matrix.groups(), matrix.group_size()});
  const auto largest = groups.abs().amax({2}, /*keepdim=*/true);
  return at::where(largest > 0, groups / largest * largest_level, at::zeros_like(groups)).contiguous();
}

std::vector<std::vector<double>> clusters(const std::vector<CodebookTarget>& targets, double largest_level,
                                          int64_t count) {
  std::vector<at::Tensor> values;
  double lowest = 0, highest = 0;
  for (const auto& target : targets) {
    values.push_back(normalised(target.matrix, largest_level));
    lowest = std::min(lowest, values.back().min().item<double>());
    highest = std::max(highest, values.back().max().item<double>());
  }
  WeightedKMeans kmeans(lowest, highest);
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto weights = targets[i].magnitudes.contiguous();
    const float *value = values[i].data_ptr<float>(), *weight = weights.data_ptr<float>();
    const int64_t channels = weights.numel();
    for (int64_t j = 0; j < values[i].numel(); ++j) kmeans.add(value[j], weight[j % channels]);
  }
  return kmeans.run(count);
}

std::vector<Levels> candidates(const std::vector<CodebookTarget>& targets, const Levels& start,
                               const AdaptiveCodebookParameters& parameters) {
  const int64_t count = parameters.num_elements;
  std::vector<Levels> result;
  if (static_cast<int64_t>(start.size()) == count) result.push_back(rounded_levels(start, parameters.value_type));
  std::vector<double> integers;
  for (int64_t i = 0; i < count; ++i) integers.push_back(static_cast<double>(i - count / 2));
  result.push_back(rounded_levels(integers, parameters.value_type));
  const double largest = std::max(std::fabs(start.front()), std::fabs(start.back()));
  for (const auto& centres : clusters(targets, largest, count)) {
    result.push_back(rounded_levels(centres, parameters.value_type));
  }
  return result;
}

}  // namespace

AdaptiveCodebook adaptive_codebook(const std::vector<CodebookLayer>& layers, const QuantizationSpec& spec,
                                   const AdaptiveCodebookParameters& parameters, const Levels& codebook) {
  const Levels start = start_levels(parameters, codebook);
  std::vector<CodebookTarget> targets;
  for (const auto& layer : layers) targets.emplace_back(layer, with_levels(spec, start));
  if (targets.empty()) throw Error(ErrorCode::kInvalidArgument, "a codebook for no layers", "adaptive_codebook");

  AdaptiveCodebook result;
  double least = 0;
  for (const Levels& levels : candidates(targets, start, parameters)) {
    if (levels.size() < 2) continue;
    double error = 0;
    for (const auto& target : targets) error += target.error_with(levels);
    if (!result.levels.empty() && error >= least) continue;
    least = error;
    result.levels = levels;
  }
  for (const auto& target : targets) {
    const auto error_of = [&](const Levels& levels) {
      return error_by_inputs(target.matrix.weight(), target.values_with(levels), target.inputs);
    };
    result.errors.push_back({error_of(start), error_of(result.levels)});
  }
  return result;
}

std::vector<std::vector<size_t>> codebook_groups(const std::vector<std::string>& names,
                                                 const AdaptiveCodebookParameters& parameters) {
  std::vector<std::vector<size_t>> groups;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < names.size(); ++i) {
    std::string letters;
    for (const char c : names[i]) {
      if (std::isalpha(static_cast<unsigned char>(c)) != 0) letters += c;
    }
    const auto [entry, added] = known.emplace(letters, groups.size());
    if (added || !parameters.across_blocks) {
      groups.push_back({i});
    } else {
      groups[entry->second].push_back(i);
    }
  }
  return groups;
}

}  // namespace tsquant
