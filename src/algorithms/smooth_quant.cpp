#include "algorithms/smooth_quant.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>
#include <utility>

#include "algorithms/smooth_layers.h"
#include "algorithms/smooth_scale.h"
#include "graph/names.h"
#include "graph/params.h"
#include "graph/shared_weight.h"
#include "graph/smooth_quant_function.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

void check_alpha(double alpha, const char* name) {
  if (alpha <= 1) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the SmoothQuant alpha \"{}\" is {}", name, alpha),
              fmt::format("smooth_quant_params.{}", name), "use 0 to 1, or a negative value to switch it off");
}

std::string names_of_layers(const SmoothGroup& group) {
  std::vector<std::string> names;
  for (const auto& layer : group.layers) names.push_back(layer.node->name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Largest magnitude of each channel over all samples.
std::unique_ptr<RangeEstimatorObserver> channel_maxima(int64_t axis) {
  const StatisticsCollectorParameters bound{StatisticsType::kAbsMax, AggregatorType::kMax};
  return std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters{bound, bound}, axis, /*per_item=*/false);
}

void collect(const Model& model, const GraphView& view, const Dataset& dataset, std::vector<SmoothGroup>& groups,
             CalibrationOptions calibration) {
  calibration.collection = "smooth_quant";
  calibration.extra_taps.clear();
  for (auto& group : groups) {
    group.maxima = channel_maxima(group.axis);
    calibration.extra_taps.push_back({{group.value, {nullptr, 0}}, group.maxima.get(), group.producer->name});
  }
  calibrate(model, view, {}, dataset, calibration);
}

/// The groups that need the same scale.
using Cluster = std::vector<SmoothGroup*>;

std::vector<Cluster> clusters_of(std::vector<SmoothGroup>& groups) {
  std::vector<Cluster> clusters;
  std::map<size_t, size_t> index;
  for (auto& group : groups) {
    const auto [place, is_new] = index.emplace(group.cluster, clusters.size());
    if (is_new) clusters.emplace_back();
    clusters[place->second].push_back(&group);
  }
  return clusters;
}

at::Tensor weight_of(const Model& model, const SmoothLayer& layer) {
  return param_of(model, layer.weight->value)->tensor;
}

/// Why the groups cannot be smoothed; empty when they can.
std::string obstacle(const Model& model, const Cluster& cluster) {
  int64_t channels = -1;
  for (const auto* group : cluster) {
    if (group->maxima->batches() == 0) return fmt::format("no sample reached {}", group->producer->name);
    const int64_t here = group->maxima->range().max.numel();
    if (channels < 0) channels = here;
    for (const auto& layer : group->layers) {
      if (here == channels && input_channels(weight_of(model, layer), layer.groups) == channels) continue;
      return fmt::format("{} has {} channels, the weight of {} reads {}", group->producer->name, here, layer.node->name,
                         input_channels(weight_of(model, layer), layer.groups));
    }
  }
  return "";
}

/// The most even scale that a layer of the cluster asks for; undefined when there is none.
at::Tensor best_scale(const Model& model, const Cluster& cluster) {
  at::Tensor activations = cluster.front()->maxima->range().max;
  for (const auto* group : cluster) activations = at::maximum(activations, group->maxima->range().max);
  SmoothScale best;
  for (const auto* group : cluster) {
    for (const auto& layer : group->layers) {
      const auto weights = input_channel_maxima(weight_of(model, layer), layer.groups);
      SmoothScale candidate = smooth_scale(activations, weights, layer.alpha);
      if (candidate.ratio > best.ratio) best = std::move(candidate);
    }
  }
  return best.scale;
}

void scale_weights(Model& model, const Cluster& cluster, const at::Tensor& scale) {
  std::vector<int64_t> order;
  std::map<int64_t, std::vector<ParameterUse>> uses;
  std::map<int64_t, const SmoothLayer*> first;
  for (const auto* group : cluster) {
    for (const auto& layer : group->layers) {
      const int64_t weight = layer.weight->from;
      if (first.emplace(weight, &layer).second) order.push_back(weight);
      uses[weight].emplace_back(layer.weight->use.user, layer.weight->use.offset);
    }
  }
  for (int64_t weight : order) {
    const SmoothLayer& layer = *first[weight];
    replace_parameter(model, uses[weight], scale_input_channels(weight_of(model, layer), scale, layer.groups));
  }
}

/// Puts `value * factor` right behind the producer and lets the layers of the group read it.
class Inserter {
 public:
  explicit Inserter(Graph& graph) : graph_(graph) {}

  std::string insert(const SmoothGroup& group, const at::Tensor& factor) {
    Node* producer = group.value->node();
    Node* multiply = graph_.create(c10::aten::mul, {group.value, group.value}, 1);
    if (producer->kind() == c10::prim::Param) {
      producer->owningBlock()->prependNode(multiply);
    } else {
      multiply->insertAfter(producer);
      multiply->setSourceRange(producer->sourceRange());
    }
    {
      torch::jit::WithInsertPoint guard(multiply);
      multiply->replaceInput(1, graph_.insertConstant(factor));
    }
    multiply->output()->setType(c10::TensorType::get());
    for (const auto& layer : group.layers) {
      layer.input->use.user->replaceInput(layer.input->use.offset, multiply->output());
    }
    return name(multiply, group);
  }

 private:
  /// The alias is the name that NNCF gives to the first multiply of a group.
  std::string name(Node* multiply, const SmoothGroup& group) {
    const std::string place = fmt::format("{}_{}", group.producer->fx_name, group.output_port);
    NodeNames names;
    names.name = fmt::format("{}/{}/{}", group.producer->name, kSmoothQuantFunction, by_name_[group.producer->name]++);
    names.fx_name = fmt::format("{}_{}_nncf_smooth_quant_0", place, by_alias_[place]++);
    set_names(multiply, names);
    return names.name;
  }

  Graph& graph_;
  std::map<std::string, int> by_name_, by_alias_;
};

/// Shaped so that the channels meet the axis, whatever stands before it: [channels], [channels, 1, 1], ...
at::Tensor factor_of(const SmoothGroup& group, const at::Tensor& scale, c10::ScalarType dtype) {
  std::vector<int64_t> shape(static_cast<size_t>(-group.axis), 1);
  shape.front() = scale.numel();
  return scale.reciprocal().reshape(shape).to(dtype);
}

}  // namespace

void check_smooth_quant(const SmoothQuantParameters& parameters) {
  check_alpha(parameters.convolution, "convolution");
  check_alpha(parameters.matmul, "matmul");
}

SmoothQuantResult smooth_quant(Model& model, const Dataset& dataset, const SmoothQuantParameters& parameters,
                               CalibrationOptions calibration) {
  check_smooth_quant(parameters);
  at::NoGradGuard no_grad;
  SmoothQuantResult result;
  const GraphView view(model);
  auto groups = find_smooth_groups(model, view, parameters, result.warnings);
  result.found = static_cast<int64_t>(groups.size());
  if (groups.empty()) return result;
  collect(model, view, dataset, groups, std::move(calibration));

  Inserter inserter(*model.graph());
  for (const auto& cluster : clusters_of(groups)) {
    std::string reason = obstacle(model, cluster);
    const at::Tensor scale = reason.empty() ? best_scale(model, cluster) : at::Tensor();
    if (reason.empty() && !scale.defined()) reason = "its weights are not finite";
    if (!reason.empty()) {
      for (const auto* group : cluster) {
        result.warnings.push_back(fmt::format("SmoothQuant left out {}: {}", names_of_layers(*group), reason));
      }
      continue;
    }
    const auto dtype = weight_of(model, cluster.front()->layers.front()).scalar_type();
    scale_weights(model, cluster, scale);
    for (const auto* group : cluster) {
      SmoothedGroup record{group->producer->name, inserter.insert(*group, factor_of(*group, scale, dtype)), {}, scale};
      for (const auto& layer : group->layers) record.layers.push_back(layer.node->name);
      result.groups.push_back(std::move(record));
    }
  }
  return result;
}

}  // namespace tsquant
