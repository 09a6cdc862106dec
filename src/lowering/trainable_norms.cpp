#include "lowering/trainable_norms.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "graph/attribute_slots.h"
#include "graph/dead_code.h"
#include "graph/insert_op.h"
#include "graph/module_calls.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

const std::string kBlockPrefix = "conv_bn_";
constexpr const char* kWeightModule = "weight_fake_quant";
constexpr size_t kNormTraining = 5;

/// Arguments of the layers after the bias, as their operators and blocks take them.
struct LayerRow {
  const char* kind;
  const char* block;      ///< class name
  const char* arguments;  ///< declared
  const char* call;
  size_t trailing;  ///< axes of the result behind the channels
  /// Factors of the output channels for the first two axes of the weight: of a transposed convolution it has them in
  /// the second axis, those of a group for the input channels of that group.
  const char* factors = "k.reshape([-1, 1";
};

const std::vector<LayerRow>& layer_rows() {
  static const char* const kGeometry = ", stride: List[int], padding: List[int], dilation: List[int], groups: int";
  static const char* const kTransposed =
      ", stride: List[int], padding: List[int], output_padding: List[int], groups: int, dilation: List[int]";
  static const char* const kOfGroups =
      "k.reshape([groups, -1]).repeat_interleave(weight.size(0) // groups, 0).reshape([weight.size(0), -1";
  static const std::vector<LayerRow> rows = {
      {"aten::linear", "LinearBn1d", "", "torch.linear(x, w, None)", 0},
      {"aten::conv1d", "ConvBn1d", kGeometry, "torch.conv1d(x, w, None, stride, padding, dilation, groups)", 1},
      {"aten::conv2d", "ConvBn2d", kGeometry, "torch.conv2d(x, w, None, stride, padding, dilation, groups)", 2},
      {"aten::conv3d", "ConvBn3d", kGeometry, "torch.conv3d(x, w, None, stride, padding, dilation, groups)", 3},
      {"aten::conv_transpose1d", "ConvTransposeBn1d", kTransposed,
       "torch.conv_transpose1d(x, w, None, stride, padding, output_padding, groups, dilation)", 1, kOfGroups},
      {"aten::conv_transpose2d", "ConvTransposeBn2d", kTransposed,
       "torch.conv_transpose2d(x, w, None, stride, padding, output_padding, groups, dilation)", 2, kOfGroups},
      {"aten::conv_transpose3d", "ConvTransposeBn3d", kTransposed,
       "torch.conv_transpose3d(x, w, None, stride, padding, output_padding, groups, dilation)", 3, kOfGroups}};
  return rows;
}

const LayerRow* row_of(const std::string& kind) {
  for (const auto& row : layer_rows()) {
    if (kind == row.kind) return &row;
  }
  return nullptr;
}

/// Source of a block's forward; the arguments are those of the layer and then those of aten::batch_norm.
std::string block_source(const LayerRow& row) {
  std::string tail, ones;
  for (size_t i = 0; i < row.trailing; ++i) tail += ", 1";
  return fmt::format(R"(
def forward(self, x, weight, bias: Optional[Tensor]{arguments}, gamma: Optional[Tensor], beta: Optional[Tensor], mean: Optional[Tensor], var: Optional[Tensor], training: bool, momentum: float, eps: float, cudnn_enabled: bool):
    assert var is not None
    deviation = torch.sqrt(var + eps)
    if gamma is None:
        k = torch.reciprocal(deviation)
    else:
        k = torch.where(gamma == 0, torch.ones_like(deviation), gamma / deviation)
    w = self.weight_fake_quant.forward(weight * {factors}{tail}]))
    y = {call} / k.reshape([-1{tail}])
    if bias is not None:
        y = y + bias.reshape([-1{tail}])
    return torch.batch_norm(y, gamma, beta, mean, var, training, momentum, eps, cudnn_enabled)
)",
                     fmt::arg("arguments", row.arguments), fmt::arg("factors", row.factors), fmt::arg("call", row.call),
                     fmt::arg("tail", tail));
}

class TrainableMaker {
 public:
  TrainableMaker(Model& model, ObserverNames& names) : model_(model), names_(names) {}

  bool run(const NormPairs& pairs, const Annotations& annotations) {
    const auto nodes = all_nodes(model_.graph()->block());
    for (Node* node : nodes) by_name_.emplace(names_of(node).name, node);
    bool changed = follow_training(nodes);
    std::set<std::string> done;
    for (const auto& point : annotations.points) {
      const auto pair = pairs.find(point.node);
      const auto name = names_.find(point.id);
      if (point.kind != PointKind::kWeight || pair == pairs.end() || name == names_.end()) continue;
      if (!done.insert(pair->first).second) continue;
      const std::string observer = name->second;  // its entry changes
      changed |= make_block(by_name_.at(pair->first), by_name_.at(pair->second), observer);
    }
    return changed;
  }

 private:
  /// One value for all norms and one for all dropouts, at the top of the graph.
  bool follow_training(const std::vector<Node*>& nodes) {
    bool changed = false;
    for (Node* node : nodes) {
      const std::string kind = node->kind().toQualString();
      if (kind == "aten::batch_norm" || kind == "aten::instance_norm") {
        if (kind == "aten::batch_norm" && is_running(node)) node->replaceInput(kNormTraining, update());
      } else if (kind == "aten::dropout" || kind == "aten::feature_dropout" || kind == "aten::alpha_dropout") {
        node->replaceInput(2, training());
      } else {
        continue;
      }
      changed = true;
    }
    return changed;
  }

  /// Norms without running statistics use those of the batch in any mode.
  bool is_running(const Node* norm) const {
    const auto training = constant_of(model_, norm->input(kNormTraining));
    return training && training->isBool() && !training->toBool();
  }

  Value* training() {
    if (!training_) {
      auto graph = model_.graph();
      if (!model_.module().hasattr("training"))
        model_.module().register_attribute("training", c10::BoolType::get(), false);
      torch::jit::WithInsertPoint guard(*graph->block()->nodes().begin());
      training_ = graph->insertGetAttr(graph->inputs().at(0), "training");
    }
    return training_;
  }

  Value* update() {
    if (!update_) {
      auto graph = model_.graph();
      Value* training = this->training();
      model_.module().register_attribute(kNormUpdate, c10::BoolType::get(), true);
      torch::jit::WithInsertPoint guard(training->node()->next());
      Value* enabled = graph->insertGetAttr(graph->inputs().at(0), kNormUpdate);
      update_ = insert_op(*graph, "aten::__and__", {training, enabled});
      update_->setType(c10::BoolType::get());
    }
    return update_;
  }

  /// %w = prim::CallMethod(%fq, %weight); %c = aten::conv2d(%x, %w, %b, ...); %y = aten::batch_norm(%c, ...)
  ///   ->
  /// %y = prim::CallMethod[name="forward"](%conv_bn_0, %x, %weight, %b, ..., %gamma, ...)
  bool make_block(Node* layer, Node* norm, const std::string& observer) {
    const LayerRow* row = row_of(layer->kind().toQualString());
    Node* call = layer->input(WeightedLayer::kWeight)->node();
    if (!row || call->kind() != c10::prim::CallMethod || norm->input(0) != layer->output()) return false;
    auto& module = model_.module();
    const std::string name = kBlockPrefix + std::to_string(count_++);
    module.register_module(name, make_module(*row, module.attr(observer).toModule()));

    auto graph = model_.graph();
    torch::jit::WithInsertPoint guard(norm);
    std::vector<Value*> inputs{layer->input(0), call->input(1)};
    inputs.insert(inputs.end(), layer->inputs().begin() + WeightedLayer::kBias, layer->inputs().end());
    inputs.insert(inputs.end(), norm->inputs().begin() + 1, norm->inputs().end());
    Value* result = insert_module_call(*graph, name, inputs);
    norm->output()->replaceAllUsesWith(result);
    norm->destroy();
    layer->destroy();
    if (!call->hasUses()) remove_module_call(call);
    for (auto& [id, known] : names_) {
      if (known == observer) known = name;
    }
    remove_attribute(module, observer);
    return true;
  }

  /// A class per kind of layer and of observer.
  Module make_module(const LayerRow& row, const Module& observer) {
    const auto unit = model_.module()._ivalue()->compilation_unit();
    auto& type = types_[{row.kind, observer.type().get()}];
    if (type) {
      Module block(unit, type);
      block.setattr(kWeightModule, observer._ivalue());
      return block;
    }
    Module block(c10::QualifiedName(std::string("__torch__.tsquant.qat.") + row.block), unit, /*shouldMangle=*/true);
    block.register_module(kWeightModule, observer);
    block.define(block_source(row));
    type = block.type();
    return block;
  }

  Model& model_;
  ObserverNames& names_;
  std::map<std::string, Node*> by_name_;
  std::map<std::pair<std::string, const c10::Type*>, c10::ClassTypePtr> types_;
  Value* training_ = nullptr;
  Value* update_ = nullptr;
  int64_t count_ = 0;
};

/// The way back of make_block.
void unmake_block(Graph& graph, Node* call, const std::string& kind) {
  torch::jit::WithInsertPoint guard(call);
  const size_t norm_inputs = 8;  // of aten::batch_norm, after its tensor
  const auto inputs = call->inputs();
  const size_t of_layer = inputs.size() - norm_inputs;
  std::vector<Value*> arguments(inputs.begin() + 1, inputs.begin() + static_cast<std::ptrdiff_t>(of_layer));
  Value* result = insert_op(graph, kind.c_str(), arguments);
  arguments = {result};
  arguments.insert(arguments.end(), inputs.begin() + static_cast<std::ptrdiff_t>(of_layer), inputs.end());
  call->output()->replaceAllUsesWith(insert_op(graph, "aten::batch_norm", arguments));
  remove_module_call(call);
}

/// By the block's class: the only thing that says so after loading.
std::string layer_kind_of(const Module& block) {
  const std::string type = block.type()->name()->name();
  for (const auto& row : layer_rows()) {
    if (type.rfind(row.block, 0) == 0) return row.kind;
  }
  return "";
}

bool is_attribute(const Node* node, const std::string& name) {
  return node->kind() == c10::prim::GetAttr && node->s(c10::attr::name) == name &&
         node->input()->node()->kind() == c10::prim::Param;
}

}  // namespace

NormPairs folded_norms(const Model& model, const Model& folded) {
  std::set<std::string> left;
  for (const Node* node : nodes_of_kind(folded.graph()->block(), {"aten::batch_norm"}))
    left.insert(names_of(node).name);
  NormPairs pairs;
  for (const Node* norm : nodes_of_kind(model.graph()->block(), {"aten::batch_norm"})) {
    const std::string name = names_of(norm).name;
    if (left.count(name) == 0) pairs[names_of(norm->input(0)->node()).name] = name;
  }
  return pairs;
}

Annotations unfolded(Annotations annotations, const NormPairs& pairs) {
  for (auto& point : annotations.points) {
    const auto pair = pairs.find(point.node);
    if (pair != pairs.end() && !point.input_port) point.node = pair->second;
  }
  return annotations;
}

bool make_trainable(Model& model, const NormPairs& pairs, const Annotations& annotations, ObserverNames& names) {
  return TrainableMaker(model, names).run(pairs, annotations);
}

std::map<std::string, Module> remove_trainable(Module& module) {
  auto graph = module.get_method("forward").graph();
  std::map<std::string, Module> weights;
  for (const auto& [call, name] : module_calls(*graph, kBlockPrefix)) {
    const Module block = module.attr(name).toModule();
    const std::string kind = layer_kind_of(block);
    if (kind.empty() || !block.hasattr(kWeightModule)) continue;
    weights.emplace(name, block.attr(kWeightModule).toModule());
    unmake_block(*graph, call, kind);
  }
  for (const auto& block : weights) remove_attribute(module, block.first);
  for (Node* node : all_nodes(graph->block())) {
    if (!is_attribute(node, "training") && !is_attribute(node, kNormUpdate)) continue;
    torch::jit::WithInsertPoint guard(node);
    Value* off = graph->insertConstant(false);
    // What follow_training computes from it is off as well.
    const auto uses = node->output()->uses();
    for (const auto& use : uses) {
      if (use.user->kind() == c10::Symbol::fromQualString("aten::__and__")) use.user->output()->replaceAllUsesWith(off);
    }
    node->output()->replaceAllUsesWith(off);
  }
  remove_dead_code(graph);
  if (module.hasattr(kNormUpdate)) remove_attribute(module, kNormUpdate);
  return weights;
}

}  // namespace tsquant
