#include "run/tap_runner.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <torch/library.h>

#include "base/error_text.h"
#include "graph/carried_state.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "io/file_mapping.h"
#include "run/argument_copies.h"
#include "run/deterministic_ops.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// The sink of the run that is under way on this thread.
thread_local const TapRunner::Sink* current_sink = nullptr;

at::Tensor tap(const at::Tensor& x, int64_t id) {
  if (current_sink && *current_sink) (*current_sink)(static_cast<size_t>(id), x);
  return x;
}

c10::optional<at::Tensor> tap_optional(const c10::optional<at::Tensor>& x, int64_t id) {
  return x ? c10::make_optional(tap(*x, id)) : c10::nullopt;
}

// The result aliases the argument, so alias analysis sees through a tap.
TORCH_LIBRARY_FRAGMENT(tsquant, library) {
  library.def("tap(Tensor(a) x, int id) -> Tensor(a)",
              torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, TORCH_FN(tap)));
  library.def("tap.optional(Tensor(a)? x, int id) -> Tensor(a)?", TORCH_FN(tap_optional));
}

/// Nested tensors have no shape to record and carry no quantizer, so no sink sees them.
at::Tensor pass_nested(const at::Tensor& x, int64_t) { return x; }

TORCH_LIBRARY_IMPL(tsquant, NestedTensorCPU, library) { library.impl("tap", TORCH_FN(pass_nested)); }
TORCH_LIBRARY_IMPL(tsquant, AutogradNestedTensor, library) {
  library.impl("tap", torch::CppFunction::makeFallthrough());
}

class SinkScope {
 public:
  explicit SinkScope(const TapRunner::Sink* sink) : previous_(current_sink) { current_sink = sink; }
  ~SinkScope() { current_sink = previous_; }

 private:
  const TapRunner::Sink* previous_;
};

/// Pairs the values and nodes of two graphs with the same structure.
struct Correspondence {
  std::unordered_map<const Value*, Value*> values;
  std::unordered_map<const Node*, Node*> nodes;

  void add(Block* from, Block* to) {
    for (size_t i = 0; i < from->inputs().size(); ++i) values[from->inputs()[i]] = to->inputs()[i];
    auto other = to->nodes().begin();
    for (Node* node : from->nodes()) {
      Node* copy = *other++;
      nodes[node] = copy;
      for (size_t i = 0; i < node->outputs().size(); ++i) values[node->outputs()[i]] = copy->outputs()[i];
      for (size_t i = 0; i < node->blocks().size(); ++i) add(node->blocks()[i], copy->blocks()[i]);
    }
    nodes[from->return_node()] = to->return_node();
  }
};

Node* make_tap(Graph& graph, Value* value, size_t id) {
  static const auto kind = c10::Symbol::fromQualString("tsquant::tap");
  Node* node = graph.create(kind, {value}, 1);
  node->output()->setType(value->type());
  Value* index = graph.create(c10::prim::Constant)->i_(c10::attr::value, static_cast<int64_t>(id))->output();
  index->setType(c10::IntType::get());
  node->addInput(index);
  return node;
}

void insert_tap(Graph& graph, const TapPoint& point, const Correspondence& map, size_t id) {
  if (point.use.user) {
    Node* user = map.nodes.at(point.use.user);
    Node* tap_node = make_tap(graph, user->input(point.use.offset), id);
    tap_node->insertBefore(user);
    tap_node->input(1)->node()->insertBefore(tap_node);
    user->replaceInput(point.use.offset, tap_node->output());
    return;
  }
  Value* value = map.values.at(point.value);
  Node* tap_node = make_tap(graph, value, id);
  if (value->node()->kind() == c10::prim::Param) {
    tap_node->insertAfter(value->node()->owningBlock()->param_node());
  } else {
    tap_node->insertAfter(value->node());
  }
  tap_node->input(1)->node()->insertBefore(tap_node);
  value->replaceAllUsesAfterNodeWith(tap_node, tap_node->output());
}

void give_weights_back(const Model& model, const Correspondence& map) {
  if (is_stateful(model)) return;  // the run has weights of its own
  const ParamIndex params(model);
  for (const Node* node : nodes_of_kind(model.graph()->block(), {"prim::GetAttr"})) {
    const auto param = params.find(node->output());
    if (param && is_mapped(param->tensor)) give_pages_back_after_reads(map.values.at(node->output()));
  }
}

}  // namespace

struct TapRunner::Impl {
  torch::jit::Module module;
  torch::jit::Code code;
  bool stateful;
  bool writes_to_arguments;
};

TapRunner::TapRunner(const Model& model, const std::vector<TapPoint>& taps, bool deterministic, WeightPages pages) {
  auto graph = model.graph();
  Correspondence map;
  const bool gives_back = pages == WeightPages::kGiveBack;
  if (!taps.empty() || deterministic || gives_back) graph = graph->copy();  // else that of Code is enough
  if (!taps.empty() || gives_back) map.add(model.graph()->block(), graph->block());
  if (gives_back) give_weights_back(model, map);
  for (size_t i = 0; i < taps.size(); ++i) insert_tap(*graph, taps[i], map, i);
  if (deterministic) use_deterministic_ops(*graph);
  // A run that changes attributes must work on its own copy of the module.
  const bool stateful = is_stateful(model);
  auto module = stateful ? model.module().deepcopy() : model.module();
  impl_.reset(new Impl{module, torch::jit::Code(graph, "forward"), stateful, may_write_to_arguments(*graph)});
}

TapRunner::~TapRunner() = default;

bool TapRunner::stateful() const { return impl_->stateful; }

c10::IValue TapRunner::run(const Sample& given, const Sink& sink) const {
  at::NoGradGuard no_grad;
  // The next run, and the caller, find the sample as it was.
  const Sample sample = impl_->writes_to_arguments ? deep_copy(given) : given;
  torch::jit::Stack stack{impl_->module._ivalue()};
  stack.insert(stack.end(), sample.args.begin(), sample.args.end());
  const auto schema = impl_->module.get_method("forward").function().getSchema();
  try {
    schema.checkAndNormalizeInputs(stack, sample.kwargs);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, "the sample does not fit the arguments of forward: " + operator_message(error),
                "forward" + fmt::format("({} arguments given)", sample.args.size() + sample.kwargs.size()),
                "give one value per argument, with the type the model expects");
  }
  SinkScope scope(&sink);
  try {
    torch::jit::InterpreterState(impl_->code).run(stack);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, "the model rejected the sample: " + operator_message(error), "forward",
                "check shape and dtype of the inputs");
  }
  return stack.size() == 1 ? stack.front() : c10::ivalue::Tuple::create(stack);
}

std::vector<c10::IValue> bind_arguments(const Model& model, const Sample& sample) {
  torch::jit::Stack stack{model.module()._ivalue()};
  stack.insert(stack.end(), sample.args.begin(), sample.args.end());
  try {
    model.module().get_method("forward").function().getSchema().checkAndNormalizeInputs(stack, sample.kwargs);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, "the sample does not fit the arguments of forward: " + operator_message(error),
                "forward", "give one value per argument, with the type the model expects");
  }
  return stack;
}

}  // namespace tsquant
