#include "algorithms/smooth_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "graph/mutation.h"
#include "graph/op_table.h"
#include "graph/params.h"
#include "graph/tensor_values.h"
#include "graph/weighted_layer.h"

namespace tsquant {

namespace {

/// The operator table has a row of its own for them.
bool is_depthwise(const ViewNode& node) { return node.op != &find_op(node.type); }

class Finder {
 public:
  Finder(const Model& model, const GraphView& view, const SmoothQuantParameters& parameters,
         std::vector<std::string>& warnings)
      : model_(model), view_(view), scope_(model), parameters_(parameters), warnings_(warnings) {}

  std::vector<SmoothGroup> run() {
    for (const auto& node : view_.nodes()) {
      if (node.kind == NodeKind::kOperator && node.op) add(node);
    }
    leave_out_written();
    leave_out_foreign_readers();
    join_shared_weights();
    return std::move(groups_);
  }

 private:
  using GroupKey = std::tuple<const torch::jit::Value*, int64_t, int64_t>;

  void add(const ViewNode& node) {
    const auto read = weighted_layer(model_, node.node);
    if (!read || read->kind == LayerKind::kTransposedConvolution || is_depthwise(node)) return;
    const bool convolution = read->kind == LayerKind::kConvolution;
    SmoothLayer layer;
    layer.node = &node;
    layer.alpha = convolution ? parameters_.convolution : parameters_.matmul;
    if (layer.alpha < 0) return;
    layer.input = view_.input_edge(node, 0);
    layer.weight = view_.input_edge(node, 1);
    if (!layer.input || !layer.weight || layer.weight->use.user != node.node) return;
    const auto weight = param_of(model_, layer.weight->value);
    const ViewNode& producer = view_.node(layer.input->from);
    if (!weight || !weight->tensor.is_floating_point() || producer.kind == NodeKind::kParameter) return;
    // A quantizer in front of a convolution moves up through such operators; a multiply would stop it.
    if (convolution && producer.op && producer.op->default_trait == QuantizationTrait::kQuantizationAgnostic) return;
    layer.axis = read->channel_axis();
    layer.groups = read->groups.value_or(1);
    if (!layer.input->value->type()->isSubtypeOf(*c10::TensorType::get())) return;
    if (may_be_uninitialized(layer.input->value)) return;
    group_of(layer, producer).layers.push_back(layer);
  }

  SmoothGroup& group_of(const SmoothLayer& layer, const ViewNode& producer) {
    const GroupKey key{layer.input->value, layer.input->output_port, layer.axis};
    const auto [place, is_new] = index_.emplace(key, groups_.size());
    if (is_new) {
      SmoothGroup group;
      group.value = layer.input->value;
      group.producer = &producer;
      group.output_port = layer.input->output_port;
      group.axis = layer.axis;
      groups_.push_back(std::move(group));
    }
    return groups_[place->second];
  }

  /// Layers whose weight is read by something that will not be smoothed.
  void leave_out_foreign_readers() {
    std::set<int64_t> smoothed;
    for (const auto& group : groups_) {
      for (const auto& layer : group.layers) smoothed.insert(layer.node->id);
    }
    for (auto& group : groups_) {
      const auto is_foreign = [&](const SmoothLayer& layer) {
        const ViewNode& weight = view_.node(layer.weight->from);
        for (int64_t id : weight.out_edges) {
          const ViewEdge& edge = view_.edge(id);
          if (smoothed.count(edge.to) && edge.input_port == 1) continue;
          warnings_.push_back(fmt::format("SmoothQuant left out {}: its weight {} is read by {} too", layer.node->name,
                                          weight.name, view_.node(edge.to).name));
          return true;
        }
        return false;
      };
      auto& layers = group.layers;
      layers.erase(std::remove_if(layers.begin(), layers.end(), is_foreign), layers.end());
    }
    drop_empty();
  }

  /// The multiply reads the tensor where it is made, the layers may read it after it has changed.
  void leave_out_written() {
    if (groups_.empty()) return;
    const MutationAnalysis mutation(model_.graph());
    for (auto& group : groups_) {
      if (!mutation.is_written_later(group.value)) continue;
      for (const auto& layer : group.layers) {
        warnings_.push_back(fmt::format("SmoothQuant left out {}: its input {} is written in place", layer.node->name,
                                        group.producer->name));
      }
      group.layers.clear();
    }
    drop_empty();
  }

  void drop_empty() {
    const auto is_empty = [](const SmoothGroup& group) { return group.layers.empty(); };
    groups_.erase(std::remove_if(groups_.begin(), groups_.end(), is_empty), groups_.end());
  }

  void join_shared_weights() {
    for (size_t i = 0; i < groups_.size(); ++i) groups_[i].cluster = i;
    std::map<int64_t, size_t> first;  // by weight: a group that reads it
    for (size_t i = 0; i < groups_.size(); ++i) {
      for (const auto& layer : groups_[i].layers) {
        const auto [place, is_new] = first.emplace(layer.weight->from, i);
        if (!is_new) join(groups_[place->second].cluster, groups_[i].cluster);
      }
    }
  }

  void join(size_t kept, size_t dropped) {
    for (auto& group : groups_) {
      if (group.cluster == dropped) group.cluster = kept;
    }
  }

  const Model& model_;
  const GraphView& view_;
  const ParamScope scope_;
  const SmoothQuantParameters& parameters_;
  std::vector<std::string>& warnings_;
  std::vector<SmoothGroup> groups_;
  std::map<GroupKey, size_t> index_;
};

}  // namespace

std::vector<SmoothGroup> find_smooth_groups(const Model& model, const GraphView& view,
                                            const SmoothQuantParameters& parameters,
                                            std::vector<std::string>& warnings) {
  return Finder(model, view, parameters, warnings).run();
}

}  // namespace tsquant
