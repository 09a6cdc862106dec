#include "flows/compression/apply_awq.h"

#include <ATen/ATen.h>

#include <set>
#include <unordered_map>

#include "compression/awq_scale.h"
#include "flows/compression/layer_inputs.h"
#include "graph/op_table.h"
#include "graph/params.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_activation_function(const ViewNode& node) {
  static const std::set<std::string> kinds{
      "PTRELUMetatype", "PTHardTanhMetatype", "PTELUMetatype",  "PTPRELUMetatype",       "PTLeakyRELUMetatype",
      "PTGELUMetatype", "PTSigmoidMetatype",  "PTSILUMetatype", "PTHardSigmoidMetatype", "PTHardSwishMetatype",
      "PTSELUMetatype", "PTRELU6Metatype",    "PTTanhMetatype"};
  return node.op && kinds.count(node.op->metatype) > 0;
}

/// What stands in front of a layer.
struct AwqMatch {
  bool found = false;
  WeightLayer* before = nullptr;  ///< a linear layer whose outputs can be divided; null: a multiply is inserted
};

class AwqMatcher {
 public:
  AwqMatcher(const GraphView& view, std::vector<WeightLayer>& layers) : view_(view) {
    for (WeightLayer& layer : layers) {
      if (layer.is_matrix() && layer.uses.size() == 1 && !has_bias(layer)) linear_.emplace(layer.node, &layer);
    }
  }

  AwqMatch match(const WeightLayer& layer) const {
    const ViewNode& producer = view_.node(layer.activation->from);
    if (is_activation_function(producer)) return {true, nullptr};
    if (!producer.op || producer.op->metatype != "PTMulMetatype") return {};
    AwqMatch result;
    for (const int64_t id : producer.in_edges) {
      const ViewNode& factor = view_.node(view_.edge(id).from);
      if (is_activation_function(factor)) result.found = true;
      const auto linear = linear_.find(&factor);
      if (linear == linear_.end() || !feeds_alone(factor, producer)) continue;
      result.found = true;
      if (!result.before) result.before = linear->second;
    }
    return result;
  }

 private:
  static bool has_bias(const WeightLayer& layer) {
    if (layer.node->op->metatype != "PTLinearMetatype") return layer.node->op->metatype == "PTAddmmMetatype";
    return layer.node->in_edges.size() > 2;
  }

  /// Nothing else sees the values that would be divided.
  bool feeds_alone(const ViewNode& linear, const ViewNode& product) const {
    return linear.out_edges.size() == 1 && product.out_edges.size() == 1 && linear.value &&
           linear.value->uses().size() == 1 && product.value && product.value->uses().size() == 1;
  }

  const GraphView& view_;
  std::unordered_map<const ViewNode*, WeightLayer*> linear_;  ///< layers whose outputs can be divided
};

/// `scale` along one axis of a matrix.
at::Tensor along(const at::Tensor& scale, int64_t axis) { return axis == 0 ? scale.unsqueeze(1) : scale.unsqueeze(0); }

void insert_multiply(WeightLayer& layer, const at::Tensor& factor) {
  Node* user = product_of(layer);
  const size_t offset = layer.activation->use.offset;
  auto* graph = user->owningGraph();
  torch::jit::WithInsertPoint guard(user);
  Value* constant = graph->insertConstant(factor.to(layer.weight.scalar_type()));
  Node* multiply = graph->insertNode(graph->create(c10::aten::mul, {user->input(offset), constant}, 1));
  multiply->output()->setType(c10::TensorType::get());
  user->replaceInput(offset, multiply->output());
}

/// The scale of one layer as its only tensor; undefined: none is better.
LayerResult best_scale(const WeightLayer& layer, const WeightLayer* before, const AdvancedAWQParameters& parameters,
                       const LayerSamples* samples) {
  at::Tensor smallest;
  if (before && samples && before->inputs) {
    const auto& weight = before->weight;
    smallest = smallest_awq_scale(output_axis(*before) == 0 ? weight : weight.t(), samples_of(*before));
  }
  return {{awq_scale(layer.weight, layer.spec, samples, parameters, smallest).scale}};
}

/// A layer whose inputs can be scaled.
struct AwqLayer {
  WeightLayer* layer;
  WeightLayer* before;  ///< see AwqMatch
};

bool uses_data(const WeightLayer& layer, const AdvancedAWQParameters& parameters) {
  return parameters.prefer_data_aware_scaling && layer.inputs && layer.inputs->statistics().samples > 0;
}

LayerResult find_scale(const AwqLayer& chosen, const AdvancedAWQParameters& parameters, LayerResults& results) {
  const WeightLayer& layer = *chosen.layer;
  if (!uses_data(layer, parameters)) return best_scale(layer, chosen.before, parameters, nullptr);
  const LayerSamples samples = samples_of(layer);
  return results.obtain("awq", layer.name, [&] { return best_scale(layer, chosen.before, parameters, &samples); });
}

/// @return whether the layer was changed
bool scale_layer(Model& model, const AwqLayer& chosen, const AdvancedAWQParameters& parameters,
                 const at::Tensor& scale) {
  WeightLayer& layer = *chosen.layer;
  const bool data = uses_data(layer, parameters);
  if (!scale.defined()) {
    layer.record.remarks.emplace_back("awq: no scale is better than none");
    return false;
  }
  const at::Tensor inverse = at::reciprocal(scale);
  set_weight(model, layer, layer.weight.to(at::kFloat) * along(scale, 1 - output_axis(layer)));
  if (chosen.before) {
    WeightLayer& before = *chosen.before;
    set_weight(model, before, before.weight.to(at::kFloat) * along(inverse, output_axis(before)));
  } else {
    insert_multiply(layer, inverse);
  }
  layer.awq_scale = scale;
  layer.record.algorithms.emplace_back(data ? "awq" : "awq (data-free)");
  return true;
}

/// The layers to scale, in the order of the graph.
std::vector<AwqLayer> find_awq_layers(const GraphView& view, std::vector<WeightLayer>& layers) {
  const AwqMatcher matcher(view, layers);
  std::vector<AwqLayer> found;
  for (WeightLayer& layer : layers) {
    if (!layer.takes_algorithms()) continue;
    const AwqMatch match = matcher.match(layer);
    if (match.found && layer.uses.size() == 1 && layer.channel_axis == -1) {
      found.push_back({&layer, match.before});
    } else {
      layer.record.remarks.emplace_back("awq: no activation function or product in front, plain scales");
    }
  }
  return found;
}

/// The end of the layers from `begin` on that can be searched before any is changed: a scale changes its layer and that
/// before. One process alone takes them one by one.
size_t end_of_independent(const std::vector<AwqLayer>& layers, size_t begin, const RankGroup& ranks) {
  std::set<const WeightLayer*> changed;
  size_t end = begin;
  for (; end < layers.size() && (end == begin || !ranks.alone()); ++end) {
    const auto& [layer, before] = layers[end];
    if (changed.count(layer) > 0 || (before && changed.count(before) > 0)) break;
    changed.insert(layer);
    if (before) changed.insert(before);
  }
  return end;
}

}  // namespace

bool apply_awq(Model& model, const GraphView& view, std::vector<WeightLayer>& layers,
               const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks) {
  const auto& parameters = options.advanced_parameters.awq_params;
  const auto chosen = find_awq_layers(view, layers);
  bool changed = false;
  for (size_t begin = 0; begin < chosen.size();) {
    const size_t end = end_of_independent(chosen, begin, ranks);
    std::vector<int64_t> sizes;
    for (size_t i = begin; i < end; ++i) sizes.push_back(chosen[i].layer->weight.numel());
    const auto find = [&](size_t i) { return find_scale(chosen[begin + i], parameters, results); };
    ranks.share(sizes, find, [&](size_t i, const LayerResult& found) {
      changed = scale_layer(model, chosen[begin + i], parameters, found.tensors.at(0)) || changed;
      report_progress(options.progress, "awq", begin + i + 1, chosen.size());
    });
    begin = end;
  }
  return changed;
}

}  // namespace tsquant
