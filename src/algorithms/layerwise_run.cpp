#include "algorithms/layerwise_run.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <algorithm>

#include "run/deterministic_ops.h"
#include "run/sample_scheduler.h"
#include "run/tap_runner.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// A part of the outermost block as a graph of its own.
struct LayerwiseRun::Segment {
  std::vector<const Value*> inputs, outputs;
  std::unique_ptr<torch::jit::Code> code;
};

namespace {

/// The node of the outermost block that is or holds `node`; null for the block's return node.
const Node* outermost(const Node* node, const Block* top) {
  while (node && node->owningBlock() != top) node = node->owningBlock()->owningNode();
  return node;
}

void for_each_input(Node* node, const std::function<void(Value*)>& visit) {
  for (Value* input : node->inputs()) visit(input);
  for (Block* block : node->blocks()) {
    for (Node* inner : block->nodes()) for_each_input(inner, visit);
    for (Value* output : block->outputs()) visit(output);
  }
}

}  // namespace

bool LayerwiseRun::possible(const Model& model, const std::vector<Node*>& layers) {
  const Block* top = model.graph()->block();
  const bool outermost_only =
      std::all_of(layers.begin(), layers.end(), [&](const Node* node) { return node->owningBlock() == top; });
  return outermost_only && !TapRunner(model, {}).stateful();
}

LayerwiseRun::LayerwiseRun(const Model& model, const std::vector<Node*>& layers) : model_(model), layers_(layers) {
  for (Node* node : model.graph()->nodes()) {
    positions_[node] = nodes_.size();
    nodes_.push_back(node);
  }
  dying_.resize(nodes_.size());
  // Every part reads attributes anew, so self lives as long as the samples.
  for (const Value* input : model.graph()->inputs().slice(1)) note_last_use(input, 0);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const Value* output : nodes_[i]->outputs()) note_last_use(output, i);
  }
}

LayerwiseRun::~LayerwiseRun() = default;

void LayerwiseRun::add_sample(const Sample& sample) {
  const auto arguments = bind_arguments(model_, sample);
  State state;
  const auto inputs = model_.graph()->inputs();
  for (size_t i = 0; i < inputs.size(); ++i) state[inputs[i]] = arguments.at(i);
  samples_.push_back(std::move(state));
}

/// The position of the last node that reads the value, or that made it; the number of nodes when it is returned.
void LayerwiseRun::note_last_use(const Value* value, size_t made) {
  size_t last = made;
  for (const auto& use : value->uses()) {
    const auto place = positions_.find(outermost(use.user, model_.graph()->block()));
    last = std::max(last, place == positions_.end() ? nodes_.size() : place->second);
  }
  last_use_[value] = last;
  if (last < nodes_.size()) dying_[last].push_back(value);
}

LayerwiseRun::Segment LayerwiseRun::make_segment(size_t begin, size_t end, const Value* kept) const {
  Segment segment;
  auto graph = std::make_shared<Graph>();
  std::unordered_map<const Value*, Value*> copies;
  const auto map = [&](Value* value) { return copies.at(value); };
  // Constants and attribute reads are copied into each part that needs them; other values from before are arguments.
  const std::function<void(Value*)> import = [&](Value* value) {
    if (copies.count(value)) return;
    if (value->node()->kind() == c10::prim::GetAttr) {
      import(value->node()->input());
      copies[value] = graph->insertNode(graph->createClone(value->node(), map))->output();
      return;
    }
    if (value->node()->kind() == c10::prim::Constant) {
      copies[value] = graph->insertNode(graph->createClone(value->node(), [](Value* v) { return v; }))->output();
      return;
    }
    segment.inputs.push_back(value);
    copies[value] = graph->addInput()->copyMetadata(value);
  };
  const Block* top = model_.graph()->block();
  for (size_t i = begin; i < end; ++i) {
    for_each_input(nodes_[i], [&](Value* value) {
      if (value->node()->owningBlock() == top) import(value);
    });
    Node* copy = graph->insertNode(graph->createClone(nodes_[i], map));
    for (size_t o = 0; o < copy->outputs().size(); ++o) copies[nodes_[i]->output(o)] = copy->output(o);
  }
  for (size_t i = begin; i < end; ++i) {
    if (nodes_[i]->kind() == c10::prim::Constant || nodes_[i]->kind() == c10::prim::GetAttr) continue;
    for (Value* output : nodes_[i]->outputs()) {
      if (last_use_.at(output) >= end || output == kept || nodes_[i] == layers_[current_])
        segment.outputs.push_back(output);
    }
  }
  for (const Value* output : segment.outputs) graph->registerOutput(copies.at(output));
  use_deterministic_ops(*graph);
  segment.code = std::make_unique<torch::jit::Code>(graph, "segment");
  return segment;
}

void LayerwiseRun::run_segment(const Segment& segment, size_t end, const std::function<void(const State&)>& visit) {
  const auto run_sample = [&](int64_t sample, Turn& turn) {
    at::NoGradGuard no_grad_on_this_thread;
    State& state = samples_[static_cast<size_t>(sample)];
    torch::jit::Stack stack;
    for (const Value* value : segment.inputs) stack.push_back(state.at(value));
    torch::jit::InterpreterState(*segment.code).run(stack);
    for (size_t i = 0; i < segment.outputs.size(); ++i) state[segment.outputs[i]] = std::move(stack[i]);
    turn.in_order(0, false, [&] { visit(state); });
    for (size_t i = done_; i < end; ++i) {
      for (const Value* value : dying_[i]) state.erase(value);
    }
  };
  run_samples(static_cast<int64_t>(samples_.size()), /*independent=*/true, run_sample, [](int64_t) {});
  done_ = end;
}

void LayerwiseRun::advance(size_t index, size_t input,
                           const std::function<void(const at::Tensor&, const at::Tensor&)>& visit) {
  current_ = index;
  const Node* layer = layers_.at(index);
  const size_t end = positions_.at(layer) + 1;
  const Value* wanted = layer->input(input);
  run_segment(make_segment(done_, end, wanted), end,
              [&](const State& state) { visit(state.at(wanted).toTensor(), state.at(layer->output()).toTensor()); });
}

void LayerwiseRun::advance_before(size_t index, size_t input, const std::function<void(const at::Tensor&)>& visit) {
  current_ = index;
  const Node* layer = layers_.at(index);
  const size_t end = positions_.at(layer);
  const Value* wanted = layer->input(input);
  run_segment(make_segment(done_, end, wanted), end, [&](const State& state) { visit(state.at(wanted).toTensor()); });
}

void LayerwiseRun::add_to_results(const at::Tensor& shift, int64_t axis) {
  const Value* result = layers_.at(current_)->output();
  for (auto& state : samples_) {
    const auto found = state.find(result);
    if (found == state.end()) continue;
    const at::Tensor x = found->second.toTensor();
    std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    shape.at(static_cast<size_t>(at::maybe_wrap_dim(axis, x.dim()))) = shift.numel();
    found->second = x + shift.view(shape).to(x.scalar_type());
  }
}

}  // namespace tsquant
