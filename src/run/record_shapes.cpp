#include "graph/params.h"
#include "graph/tensor_values.h"
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

class TapCollector {
 public:
  TapCollector(const ParamIndex& params, ShapeTable& shapes) : params_(params), shapes_(shapes) {}

  void visit(Block* block) {
    for (Value* input : block->inputs()) add(input);
    for (Node* node : block->nodes()) {
      for (Value* output : node->outputs()) add(output);
      for (Block* inner : node->blocks()) visit(inner);
    }
  }

  std::vector<TapPoint> taps;

 private:
  /// Parameters are known without a run; only tensors that are used can be tapped.
  void add(Value* value) {
    if (value->type()->kind() != c10::TypeKind::TensorType) return;
    if (const auto param = params_.find(value)) {
      shapes_[value] = describe(param->tensor);
    } else if (!value->uses().empty() && !value->mustBeNone() && !may_be_uninitialized(value)) {
      taps.push_back(TapPoint{value, {nullptr, 0}});
    }
  }

  const ParamIndex& params_;
  ShapeTable& shapes_;
};

}  // namespace

ShapeTable record_shapes(const Model& model, const Sample& sample) {
  ShapeTable shapes;
  const ParamIndex params(model);
  TapCollector collector(params, shapes);
  collector.visit(model.graph()->block());
  // Inside a loop the first iteration counts: it is the one that every run with this sample reaches.
  // One run touches every weight once, so a model that is larger than the memory need not stay there.
  const TapRunner runner(model, collector.taps, /*deterministic=*/false, WeightPages::kGiveBack);
  runner.run(sample, [&](size_t tap, const at::Tensor& tensor) {
    shapes.emplace(collector.taps[tap].value, describe(tensor));
  });
  return shapes;
}

}  // namespace tsquant
