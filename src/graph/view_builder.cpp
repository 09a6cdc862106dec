#include "graph/view_builder.h"

#include <torch/csrc/jit/ir/constants.h>

#include "graph/fx_names.h"
#include "graph/op_table.h"
#include "graph/smooth_quant_function.h"
#include "graph/weighted_layer.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

GraphViewBuilder::GraphViewBuilder(GraphView& view, const ShapeTable& shapes)
    : view_(view),
      model_(view.model()),
      shapes_(shapes),
      graph_(*view.model().graph()),
      sizes_(graph_),
      params_(view.model()) {}

void GraphViewBuilder::build() {
  mark_block(graph_.block());
  for (size_t i = 0; i < graph_.outputs().size(); ++i) mark_use({graph_.return_node(), i});
  add_inputs();
  visit_block(graph_.block());
  add_returned();
}

// --- Which parameters and constants do operators read? ---

void GraphViewBuilder::mark_use(const Use& use) {
  Value* value = use.user->input(use.offset);
  if (!carries_tensor(value->type()) || is_folded(value)) return;
  Value* source = see_through(value);
  if (!marked_.insert(source).second || !is_construction(source->node())) return;
  for (size_t i = 0; i < source->node()->inputs().size(); ++i) mark_use({source->node(), i});
}

void GraphViewBuilder::mark_block(Block* block) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) {
      mark_block(inner);
      for (size_t i = 0; i < inner->outputs().size(); ++i) mark_use({inner->return_node(), i});
    }
    if (role_of(node, sizes_) == NodeRole::kNone) continue;
    for (size_t i = 0; i < node->inputs().size(); ++i) mark_use({node, i});
  }
}

// --- Nodes ---

TensorInfo GraphViewBuilder::info_of(const Value* value) const {
  if (!value) return {};
  const auto place = shapes_.find(value);
  if (place != shapes_.end()) return place->second;
  const auto kind = value->node()->kind();
  if (kind != c10::prim::GetAttr && kind != c10::prim::Constant) return {};
  const auto param = param_of(model_, value);
  if (!param) return {};
  return TensorInfo{true, param->tensor.sizes().vec(), param->tensor.scalar_type()};
}

/// Passes may leave several nodes with one name, for example when they unroll a loop.
std::string GraphViewBuilder::free_name(const std::string& name) {
  if (!view_.by_name_.count(name)) return name;
  for (int64_t& number = repeated_[name];;) {
    std::string candidate = name + "#" + std::to_string(++number);
    if (!view_.by_name_.count(candidate)) return candidate;
  }
}

int64_t GraphViewBuilder::add_node(NodeKind kind, NodeNames names, Block* block, Node* node, Value* value) {
  ViewNode result;
  result.id = static_cast<int64_t>(view_.nodes_.size());
  result.kind = kind;
  result.name = free_name(names.name);
  result.fx_name = names.fx_name.empty() ? result.name : free_name(names.fx_name);
  result.type = names.type();
  result.node = node;
  result.value = value;
  result.block = block;
  result.info = info_of(value);
  view_.by_name_.emplace(result.name, result.id);
  view_.by_name_.emplace(result.fx_name, result.id);
  if (value) view_.by_value_.emplace(value, result.id);
  view_.nodes_.push_back(std::move(result));
  return view_.nodes_.back().id;
}

NodeNames GraphViewBuilder::names_for(Node* node) {
  const std::string function = function_of(node);
  NodeNames names = names_of(node);
  if (names.name.empty()) {
    const std::string ordinal = std::to_string(unnamed_[function]++);
    names.name = "unnamed/" + function + "/" + ordinal;
    names.fx_name = "unnamed_" + fx_wish(function) + "_" + ordinal;
  }
  // Passes keep the name when they replace `relu_` by `relu`, and then the captured spelling is the type; when they
  // replace the operator by another one, the type follows.
  const auto bare = [](std::string text) {
    while (!text.empty() && text.back() == '_') text.pop_back();
    return text;
  };
  const std::string captured = names.type();
  const bool keeps = bare(captured) == bare(function) || captured == kSmoothQuantFunction;
  names.function = keeps ? captured : function;
  return names;
}

void GraphViewBuilder::add_inputs() {
  const auto names = model_.input_names();
  for (size_t i = 1; i < graph_.inputs().size(); ++i) {
    Value* value = graph_.inputs()[i];
    if (!carries_tensor(value->type())) continue;
    NodeNames input;
    input.name = i - 1 < names.size() ? names[i - 1] : value->debugName();
    input.fx_name = input.name;
    input.function = "input";
    const int64_t id = add_node(NodeKind::kInput, input, graph_.block(), nullptr, value);
    view_.nodes_[id].op = &find_metatype("PTInputNoopMetatype");
  }
}

/// Attributes and constants that operators read. The same attribute read twice is one node.
void GraphViewBuilder::add_source(Node* node) {
  Value* value = node->output();
  if (!marked_.count(value) || view_.by_value_.count(value)) return;
  const auto param = param_of(model_, value);
  const auto slot = slot_of(model_, value);
  NodeNames names;
  names.name = slot ? slot->path : constants_ == 0 ? "constant" : "constant_" + std::to_string(constants_);
  names.fx_name = fx_wish(names.name);
  if (!slot) ++constants_;
  names.function = "get_attr";
  if (slot) {
    const AccessIndex::Key key{slot->owner.get(), slot->name};
    const auto [place, is_new] = slots_.emplace(key, static_cast<int64_t>(view_.nodes_.size()));
    if (!is_new) {
      view_.by_value_.emplace(value, place->second);
      return;
    }
  }
  const bool is_constant = param || node->kind() == c10::prim::Constant;
  Node* const holder = node->kind() == c10::prim::Constant ? node : nullptr;
  if (!is_constant) names.function = "state";  // a buffer that the model writes: its content is not known
  const int64_t id = add_node(is_constant ? NodeKind::kParameter : NodeKind::kOperator, names, node->owningBlock(),
                              is_constant ? holder : node, value);
  view_.nodes_[id].op = &find_metatype(is_constant ? "PTConstNoopMetatype" : "UnknownMetatype");
}

/// Constants stand at the top of a loaded graph; the view shows them before their first reader, as FX does.
void GraphViewBuilder::add_constants_of(const Use& use) {
  Value* source = see_through(use.user->input(use.offset));
  if (source->node()->kind() == c10::prim::Constant) return add_source(source->node());
  if (!is_construction(source->node()) || !carries_tensor(source->type())) return;
  for (size_t i = 0; i < source->node()->inputs().size(); ++i) add_constants_of({source->node(), i});
}

void GraphViewBuilder::visit_block(Block* block) {
  for (Node* node : block->nodes()) visit(node);
}

void GraphViewBuilder::visit(Node* node) {
  const auto kind = node->kind();
  if (kind == c10::prim::GetAttr) return add_source(node);
  if (kind == c10::prim::Loop) add_loop_inputs(node);
  for (Block* inner : node->blocks()) visit_block(inner);
  switch (role_of(node, sizes_)) {
    case NodeRole::kNone:
      return;
    case NodeRole::kOperator:
      return add_operator(node);
    case NodeRole::kUnpack:
      return add_unpack(node);
    case NodeRole::kControl:
      return kind == c10::prim::If ? add_if(node) : add_loop_results(node);
  }
}

const OpInfo& GraphViewBuilder::row_of(const ViewNode& node) const {
  const ViewEdge* first = view_.input_edge(node, 0);
  const bool constant_first = first && view_.node(first->from).kind == NodeKind::kParameter;
  if (constant_first && node.type == "embedding") return find_metatype("PTAtenEmbeddingMetatype");
  if (constant_first && node.type == "embedding_bag") return find_metatype("PTAtenEmbeddingBagMetatype");
  const ViewEdge* weight = view_.input_edge(node, 1);
  if (!weight || weight->info.shape.empty() || layer_kind(node.node) != LayerKind::kConvolution) {
    return find_op(node.type);
  }
  // NNCF fills in_channels from dimension 0 of the weight: nncf/experimental/torch/fx/nncf_graph_builder.py.
  const auto groups = weighted_layer(model_, node.node)->groups;
  return find_op(node.type, groups && *groups > 1 && *groups == weight->info.shape[0]);
}

void GraphViewBuilder::add_operator(Node* node) {
  const auto results = tensor_results(node);
  const NodeNames names = names_for(node);
  Value* const value = results.size() == 1 ? results.front() : nullptr;
  for (size_t i = 0; i < node->inputs().size(); ++i) add_constants_of({node, i});
  const int64_t id = add_node(NodeKind::kOperator, names, node->owningBlock(), node, value);
  for (size_t i = 0; i < node->inputs().size(); ++i) add_use(id, {node, i});
  view_.nodes_[id].op = &row_of(view_.nodes_[id]);
  if (results.size() > 1) add_elements(id, results, names, node->owningBlock());
}

void GraphViewBuilder::add_elements(int64_t producer, const std::vector<Value*>& values, const NodeNames& names,
                                    Block* block) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i]->uses().empty() || !carries_tensor(values[i]->type())) continue;
    NodeNames element;
    element.name = names.name + "/getitem/" + std::to_string(i);
    element.fx_name = i < names.elements.size() ? names.elements[i] : "";
    element.function = "__getitem__";
    const int64_t id = add_node(NodeKind::kOperator, element, block, values[i]->node(), values[i]);
    view_.nodes_[id].op = &find_op("__getitem__");
    add_edge(producer, id, static_cast<int64_t>(i), values[i], {nullptr, 0});
  }
}

void GraphViewBuilder::add_unpack(Node* node) {
  const auto place = view_.by_value_.find(see_through(node->input()));
  if (place == view_.by_value_.end()) return;
  NodeNames names = names_of(node);
  if (names.name.empty()) names.name = view_.nodes_[place->second].name;
  add_elements(place->second, {node->outputs().begin(), node->outputs().end()}, names, node->owningBlock());
}

namespace {

/// Control flow with several results: the first has the node's name, the others a number after it.
NodeNames result_names(NodeNames names, size_t index) {
  if (index == 0) return names;
  names.name += "/" + std::to_string(index);
  names.fx_name = index < names.elements.size() ? names.elements[index] : "";
  return names;
}

}  // namespace

void GraphViewBuilder::add_control(const NodeNames& names, Node* node, Value* value, const std::vector<Use>& uses) {
  for (const Use& use : uses) add_constants_of(use);
  Block* const block = value->node()->owningBlock();
  const int64_t id = add_node(NodeKind::kOperator, names, block, node, value);
  view_.nodes_[id].op = &find_metatype("UnknownMetatype");
  for (const Use& use : uses) add_use(id, use);
}

void GraphViewBuilder::add_if(Node* node) {
  const NodeNames base = names_for(node);
  const auto results = tensor_results(node);
  for (size_t i = 0; i < results.size(); ++i) {
    std::vector<Use> uses;
    for (Block* inner : node->blocks()) uses.push_back({inner->return_node(), results[i]->offset()});
    add_control(result_names(base, i), node, results[i], uses);
  }
}

void GraphViewBuilder::add_loop_inputs(Node* node) {
  const NodeNames base = names_for(node);
  Block* body = node->blocks().at(0);
  for (size_t i = 1; i < body->inputs().size(); ++i) {
    if (!carries_tensor(body->inputs()[i]->type())) continue;
    NodeNames names = base;
    names.name += "/carried/" + std::to_string(i - 1);
    names.fx_name = "";
    add_control(names, node, body->inputs()[i], {{node, i + 1}});
  }
}

void GraphViewBuilder::add_loop_results(Node* node) {
  const NodeNames base = names_for(node);
  Block* body = node->blocks().at(0);
  const auto results = tensor_results(node);
  for (size_t i = 0; i < results.size(); ++i) {
    add_control(result_names(base, i), node, results[i], {{body->return_node(), results[i]->offset() + 1}});
  }
}

void GraphViewBuilder::add_returned() {
  for (size_t i = 0; i < graph_.outputs().size(); ++i) add_constants_of({graph_.return_node(), i});
  NodeNames names;
  names.name = names.fx_name = names.function = "output";
  const int64_t id = add_node(NodeKind::kOutput, names, graph_.block(), nullptr, nullptr);
  view_.nodes_[id].op = &find_metatype("PTOutputNoopMetatype");
  for (size_t i = 0; i < graph_.outputs().size(); ++i) add_use(id, {graph_.return_node(), i});
}

// --- Edges ---

void GraphViewBuilder::add_edge(int64_t from, int64_t to, int64_t output_port, Value* value, const Use& use) {
  const auto id = static_cast<int64_t>(view_.edges_.size());
  ViewEdge edge;
  edge.from = from;
  edge.to = to;
  edge.input_port = static_cast<int64_t>(view_.nodes_[to].in_edges.size());
  edge.output_port = output_port;
  edge.value = value;
  edge.use = use;
  edge.info = info_of(value);
  if (!edge.info.known && value != view_.nodes_[from].value) edge.info = view_.nodes_[from].info;
  view_.edges_.push_back(std::move(edge));
  view_.nodes_[to].in_edges.push_back(id);
  view_.nodes_[from].out_edges.push_back(id);
}

void GraphViewBuilder::add_use(int64_t to, const Use& use) {
  Value* value = use.user->input(use.offset);
  if (!carries_tensor(value->type()) || is_folded(value)) return;
  Value* source = see_through(value);
  if (is_folded(source)) return;
  if (is_construction(source->node())) {
    for (size_t i = 0; i < source->node()->inputs().size(); ++i) add_use(to, {source->node(), i});
    return;
  }
  const auto place = view_.by_value_.find(source);
  if (place == view_.by_value_.end()) return;
  add_edge(place->second, to, 0, value, use);
}

}  // namespace tsquant
