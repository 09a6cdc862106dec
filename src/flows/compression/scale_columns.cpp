#include "flows/compression/scale_columns.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "compression/column_scale.h"
#include "graph/params.h"
#include "run/tap_runner.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Parameters that the inverse goes into: input `index` of `node`, divided along its axis 0.
struct Absorber {
  Node* node;
  size_t index;
  WeightLayer* layer = nullptr;  ///< whose weight it is
};

/// Layers that read one tensor, and what computes it.
struct ColumnGroup {
  Value* inputs = nullptr;
  std::vector<WeightLayer*> layers;
  std::vector<Absorber> absorbers;
  at::Tensor sum_of_squares;  ///< of the inputs, float64 [channels]
  int64_t rows = 0;
};

Value* inputs_of(const WeightLayer& layer) { return product_of(layer)->input(layer.activation->use.offset); }

bool can_share(const WeightLayer& layer) {
  return layer.is_matrix() && layer.channel_axis == -1 && layer.uses.size() == 1;
}

/// Operators that read the values of a tensor, not its shape alone.
size_t count_readers(const Value* value) {
  static const std::set<std::string> kReadsShape{"aten::size", "aten::dim",   "aten::numel",
                                                 "aten::len",  "prim::dtype", "prim::device"};
  const auto& uses = value->uses();
  return static_cast<size_t>(std::count_if(uses.begin(), uses.end(), [](const torch::jit::Use& use) {
    return kReadsShape.count(use.user->kind().toQualString()) == 0;
  }));
}

at::Tensor by_outputs(const WeightLayer& layer, const at::Tensor& weight) {
  return output_axis(layer) == 0 ? weight : weight.t();
}

class GroupFinder {
 public:
  GroupFinder(const Model& model, std::vector<WeightLayer>& layers) : model_(model), layers_(layers) {
    for (WeightLayer& layer : layers) {
      if (layer.activation && can_share(layer)) by_node_.emplace(product_of(layer), &layer);
    }
  }

  std::vector<ColumnGroup> find() const {
    std::vector<ColumnGroup> groups;
    std::map<const Value*, size_t> known;
    for (WeightLayer& layer : layers_) {
      if (!layer.activation || !can_share(layer)) continue;
      Value* inputs = inputs_of(layer);
      const auto [entry, is_new] = known.emplace(inputs, groups.size());
      if (is_new) groups.push_back({inputs, {}, {}, {}, 0});
      groups[entry->second].layers.push_back(&layer);
    }
    const auto is_out = [&](ColumnGroup& group) {
      const bool any = std::any_of(group.layers.begin(), group.layers.end(),
                                   [](const WeightLayer* layer) { return layer->takes_algorithms(); });
      if (!any || count_readers(group.inputs) != group.layers.size()) return true;
      const WeightLayer& first = *group.layers.front();
      const int64_t channels = by_outputs(first, first.weight).size(1);
      return !absorb(group.inputs, channels, group.absorbers);
    };
    groups.erase(std::remove_if(groups.begin(), groups.end(), is_out), groups.end());
    return groups;
  }

 private:
  bool is_vector(const Value* value, int64_t channels) const {
    const auto parameter = param_of(model_, value);
    return parameter && parameter->tensor.dim() == 1 && parameter->tensor.size(0) == channels;
  }

  /// Whether a factor of each channel of `value` can go into parameters of what computes it.
  bool absorb(Value* value, int64_t channels, std::vector<Absorber>& found) const {
    static const std::set<std::string> kKeepsFactors{"aten::to",         "aten::type_as", "aten::dropout",
                                                     "aten::contiguous", "aten::alias",   "aten::detach"};
    Node* node = value->node();
    const std::string kind = node->kind().toQualString();
    if (kKeepsFactors.count(kind)) return absorb_alone(node->input(0), channels, found);
    if (kind == "aten::mul") {
      for (const size_t i : {size_t{1}, size_t{0}}) {
        if (is_vector(node->input(i), channels)) return found.push_back({node, i}), true;
      }
      return absorb_alone(node->input(1), channels, found) || absorb_alone(node->input(0), channels, found);
    }
    if (kind == "aten::layer_norm") return absorb_affine(node, 2, 3, channels, nullptr, found);
    if (kind != "aten::linear") return false;
    const auto layer = by_node_.find(node);
    return layer != by_node_.end() && absorb_affine(node, 1, 2, channels, layer->second, found);
  }

  bool absorb_alone(Value* value, int64_t channels, std::vector<Absorber>& found) const {
    return count_readers(value) == 1 && absorb(value, channels, found);
  }

  bool absorb_affine(Node* node, size_t weight, size_t bias, int64_t channels, WeightLayer* layer,
                     std::vector<Absorber>& found) const {
    const bool has_bias = !node->input(bias)->type()->isSubtypeOf(*c10::NoneType::get());
    if (has_bias && !is_vector(node->input(bias), channels)) return false;
    const auto parameter = param_of(model_, node->input(weight));
    if (!parameter || parameter->tensor.size(0) != channels) return false;
    found.push_back({node, weight, layer});
    if (has_bias) found.push_back({node, bias});
    return true;
  }

  const Model& model_;
  std::vector<WeightLayer>& layers_;
  std::unordered_map<const Node*, WeightLayer*> by_node_;
};

void measure(const Model& model, std::vector<ColumnGroup>& groups, const CompressPt2eOptions& options) {
  std::vector<TapPoint> taps;
  for (const auto& group : groups) {
    const auto& use = group.layers.front()->activation->use;
    taps.push_back({use.user->input(use.offset), use});
  }
  const TapRunner runner(model, taps, /*deterministic=*/true);
  const int64_t samples = options.dataset->count(options.subset_size);
  for (int64_t i = 0; i < samples; ++i) {
    runner.run(options.dataset->get(i), [&](size_t tap, const at::Tensor& x) {
      ColumnGroup& group = groups[tap];
      const at::Tensor rows = x.reshape({-1, x.size(-1)});
      const at::Tensor squares = rows.to(at::kFloat).square().sum(0, /*keepdim=*/false, at::kDouble);
      group.sum_of_squares = group.sum_of_squares.defined() ? group.sum_of_squares + squares : squares;
      group.rows += rows.size(0);
    });
  }
}

void apply(Model& model, const ColumnGroup& group, const at::Tensor& scale) {
  for (const Absorber& absorber : group.absorbers) {
    const at::Tensor old = param_of(model, absorber.node->input(absorber.index))->tensor;
    const at::Tensor divided = old.to(at::kFloat) / (old.dim() == 2 ? scale.unsqueeze(1) : scale);
    if (absorber.layer) {
      set_weight(model, *absorber.layer, divided);
    } else {
      set_param(model, absorber.node, absorber.index, divided.to(old.scalar_type()));
    }
  }
  for (WeightLayer* layer : group.layers) {
    const at::Tensor scaled = by_outputs(*layer, layer->weight).to(at::kFloat) * scale;
    set_weight(model, *layer, by_outputs(*layer, scaled));
    layer->awq_scale = layer->awq_scale.defined() ? layer->awq_scale * scale : scale;
    layer->record.algorithms.emplace_back("column scales");
  }
}

bool scale_group(Model& model, const ColumnGroup& group) {
  if (group.rows == 0) return false;
  std::vector<at::Tensor> weights;
  QuantizationSpec spec;
  for (const WeightLayer* layer : group.layers) {
    if (!layer->takes_algorithms()) continue;
    weights.push_back(by_outputs(*layer, layer->weight).to(at::kFloat));
    spec = layer->spec;
  }
  if (spec.group_size > 0) {
    spec.group_axis = 1;
  } else {
    spec.ch_axis = 0;
  }
  const auto mean_square = (group.sum_of_squares / static_cast<double>(group.rows)).to(at::kFloat);
  if (!at::isfinite(mean_square).all().item<bool>()) return false;  // refused where codes are chosen
  const ColumnScale found = find_column_scale(weights, spec, mean_square);
  if (!(found.error < found.error_without)) return false;
  apply(model, group, found.scale);
  return true;
}

}  // namespace

bool scale_columns(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options) {
  auto groups = GroupFinder(model, layers).find();
  if (groups.empty()) return false;
  measure(model, groups, options);
  bool changed = false;
  // From the last one on: what a layer absorbs changes its rows, which its own columns are judged by.
  for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
    name_weight_in_errors(*group->layers.front(), [&] { changed = scale_group(model, *group) || changed; });
  }
  return changed;
}

}  // namespace tsquant
