#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/tensor_values.h"
#include "run/direct_run.h"
#include "run/tap_runner.h"
#include "tsquant/graph_view.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

TensorInfo describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return TensorInfo{true, tensor.sizes().vec(), tensor.scalar_type()};
}

/// Whether a run can see the tensor: one that is used and always there.
bool is_recorded(const Value* value) {
  return value->type()->kind() == c10::TypeKind::TensorType && !value->uses().empty() && !value->mustBeNone() &&
         !may_be_uninitialized(value);
}

/// Parameters are known without a run.
void add_parameters(const Model& model, ShapeTable& shapes) {
  const ParamIndex params(model);
  for (const Node* node : all_nodes(model.graph()->block())) {
    if (node->kind() != c10::prim::GetAttr && node->kind() != c10::prim::Constant) continue;
    if (node->output()->type()->kind() != c10::TypeKind::TensorType) continue;
    if (const auto param = params.find(node->output())) shapes.emplace(node->output(), describe(param->tensor));
  }
}

class TapCollector {
 public:
  explicit TapCollector(const ShapeTable& known) : known_(known) {}

  void visit(Block* block) {
    for (Value* input : block->inputs()) add(input);
    for (Node* node : block->nodes()) {
      for (Value* output : node->outputs()) add(output);
      for (Block* inner : node->blocks()) visit(inner);
    }
  }

  std::vector<TapPoint> taps;

 private:
  void add(Value* value) {
    if (is_recorded(value) && known_.count(value) == 0) taps.push_back(TapPoint{value, {nullptr, 0}});
  }

  const ShapeTable& known_;
};

}  // namespace

ShapeTable record_shapes(const Model& model, const Sample& sample) {
  ShapeTable shapes;
  add_parameters(model, shapes);
  const auto record = [&](const Value* value, const c10::IValue& content) {
    if (!content.isTensor() || content.toTensor().is_nested() || !is_recorded(value)) return;
    const auto [place, is_new] = shapes.try_emplace(value);
    if (is_new) place->second = describe(content.toTensor());
  };
  // One run touches every weight once, so a model that is larger than the memory need not stay there.
  if (run_directly(model, sample, record, WeightPages::kGiveBack)) return shapes;
  shapes.clear();
  add_parameters(model, shapes);
  TapCollector collector(shapes);
  collector.visit(model.graph()->block());
  // Inside a loop the first iteration counts: it is the one that every run with this sample reaches.
  const TapRunner runner(model, collector.taps, /*deterministic=*/false, WeightPages::kGiveBack);
  runner.run(sample, [&](size_t tap, const at::Tensor& tensor) {
    shapes.emplace(collector.taps[tap].value, describe(tensor));
  });
  return shapes;
}

}  // namespace tsquant
