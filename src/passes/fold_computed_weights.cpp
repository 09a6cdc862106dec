#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "graph/constant_expressions.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "passes/new_parameters.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// An argument of an operator that may be a weight.
struct Place {
  Node* user;
  size_t index;
};

/// Arguments that are weights or biases by the operator's definition.
const std::vector<size_t>& parameter_ports(const Node* node) {
  static const std::unordered_map<std::string, std::vector<size_t>> ports = {
      {"aten::batch_norm", {1, 2, 3, 4}}, {"aten::layer_norm", {2, 3}}, {"aten::group_norm", {2, 3}},
      {"aten::embedding", {0}},           {"aten::embedding_bag", {0}}, {"aten::addmm", {0}}};
  static const std::vector<size_t> none, of_layers{WeightedLayer::kWeight, WeightedLayer::kBias};
  if (layer_kind(node) != LayerKind::kNone) return of_layers;
  const auto found = ports.find(node->kind().toQualString());
  return found == ports.end() ? none : found->second;
}

/// Factors of a product: a constant one is a weight unless it gets there through a reshape.
const std::vector<size_t>& product_ports(const Node* node) {
  static const std::unordered_map<std::string, std::vector<size_t>> ports = {{"aten::matmul", {0, 1}},
                                                                             {"aten::mm", {0, 1}},
                                                                             {"aten::bmm", {0, 1}},
                                                                             {"aten::addmm", {1, 2}},
                                                                             {"aten::baddbmm", {1, 2}}};
  static const std::vector<size_t> none;
  const auto found = ports.find(node->kind().toQualString());
  return found == ports.end() ? none : found->second;
}

bool is_recurrent(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"};
  return kinds.count(node->kind().toQualString()) != 0;
}

bool is_one_of(const Node* node, const std::unordered_set<std::string>& kinds) {
  return kinds.count(node->kind().toQualString()) != 0;
}

bool is_transposition(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"aten::t",       "aten::transpose", "aten::permute",
                                                        "aten::numpy_T", "aten::mT",        "aten::matrix_H",
                                                        "aten::movedim", "aten::swapaxes",  "aten::swapdims"};
  return is_one_of(node, kinds);
}

/// Copies and casts, through which a quantizer sees the tensor before them.
bool is_pass_through(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"aten::to",    "aten::contiguous", "aten::clone",
                                                        "aten::alias", "aten::detach",     "prim::unchecked_cast"};
  return is_one_of(node, kinds);
}

bool moves_values(const Node* node) {
  static const std::unordered_set<std::string> kinds = {
      "aten::view",         "aten::reshape",     "aten::unsqueeze",   "aten::squeeze",      "aten::flatten",
      "aten::unflatten",    "aten::expand",      "aten::slice",       "aten::select",       "aten::narrow",
      "aten::expand_as",    "aten::repeat",      "aten::view_as",     "aten::index",        "aten::tile",
      "prim::ListUnpack",   "aten::reshape_as",  "aten::__getitem__", "aten::_unsafe_view", "aten::_reshape_alias",
      "aten::broadcast_to", "aten::index_select"};
  return is_one_of(node, kinds);
}

bool is_stored(const Value* value) {
  const auto kind = value->node()->kind();
  return kind == c10::prim::GetAttr || kind == c10::prim::Constant;
}

bool is_computed_tensor(const Value* value) {
  return value->type()->isSubtypeOf(*c10::TensorType::get()) && !is_stored(value);
}

/// Rotary frequencies and the like reach a product through a reshape, and are no weights for NNCF.
bool comes_through_reshape(const Value* value) {
  while (is_pass_through(value->node()) || is_transposition(value->node())) value = value->node()->input(0);
  return moves_values(value->node());
}

/// The transposition of a parameter that canonicalize_linear sees through.
bool is_transposed_matrix(const Model& model, const Value* value) {
  if (!is_transposition(value->node())) return false;
  const auto weight = param_of(model, value->node()->input(0));
  return weight && weight->tensor.dim() == 2;
}

class Finder {
 public:
  explicit Finder(const Model& model) : model_(model) {}

  std::vector<Place> run() {
    for (Node* node : all_nodes(model_.graph()->block())) {
      for (const size_t port : parameter_ports(node)) add(node, port);
      for (const size_t port : product_ports(node)) add_factor(node, port);
      if (is_recurrent(node)) add_elements(node);
    }
    return std::move(places_);
  }

 private:
  void add(Node* node, size_t port) {
    if (port < node->inputs().size() && is_computed_tensor(node->input(port))) places_.push_back({node, port});
  }

  void add_elements(Node* recurrent) {
    const auto* schema = recurrent->maybeSchema();
    const auto port = schema ? schema->argumentIndexWithName("params") : c10::nullopt;
    Node* list = port ? recurrent->input(*port)->node() : nullptr;
    if (!list || list->kind() != c10::prim::ListConstruct || list->output()->uses().size() != 1) return;
    for (size_t i = 0; i < list->inputs().size(); ++i) add(list, i);
  }

  void add_factor(Node* node, size_t port) {
    Value* factor = node->input(port);
    if (!is_computed_tensor(factor) || comes_through_reshape(factor) || is_transposed_matrix(model_, factor)) return;
    // The matrix before it is transposed is the weight: canonicalize_linear makes a linear layer of this product.
    if (is_transposition(factor->node()) && is_computed_tensor(factor->node()->input(0))) {
      places_.push_back({factor->node(), 0});
    } else {
      places_.push_back({node, port});
    }
  }

  const Model& model_;
  std::vector<Place> places_;
};

/// Places that read the same weight.
struct Folding {
  std::vector<Place> places;
  std::vector<AttributeSlot> sources;
};

std::vector<Folding> plan(const Model& model, const std::vector<Place>& places) {
  ConstantExpressions expressions(model);
  std::vector<Folding> foldings;
  std::unordered_map<int64_t, size_t> by_identity;
  for (const Place& place : places) {
    Value* value = place.user->input(place.index);
    if (!expressions.obstacle(value).empty()) continue;
    // What is constant as a whole never reads activations: no quantizer stands there.
    const bool list = place.user->kind() == c10::prim::ListConstruct || is_transposition(place.user);
    if (!list && place.user->outputs().size() == 1 && expressions.obstacle(place.user->output()).empty()) continue;
    const auto [found, is_new] = by_identity.emplace(expressions.identity(value), foldings.size());
    if (is_new) foldings.push_back({{}, sources_of(model, value)});
    auto& known = foldings[found->second].places;
    const bool twice = std::any_of(known.begin(), known.end(), [&](const Place& other) {
      return other.user == place.user && other.index == place.index;
    });
    if (!twice) known.push_back(place);
  }
  return foldings;
}

/// A tensor that holds no more memory than it shows.
at::Tensor compact(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.detach().contiguous();
  return dense.storage().nbytes() == dense.nbytes() ? dense : dense.clone();
}

bool fold(RewriteContext& ctx, const Folding& folding, NewParameters& parameters) {
  const Place& first = folding.places.front();
  ctx.at(first.user);
  at::Tensor tensor;
  try {
    tensor = compact(compute_constant(ctx.model, first.user->input(first.index)));
  } catch (const std::exception&) {
    return false;  // it stays computed, and the report says so
  }
  for (const Place& place : folding.places) parameters.detach(place.user, place.index);
  parameters.store(tensor, folding.sources, first.index == 2 ? "bias" : "weight");
  for (const Place& place : folding.places) parameters.attach(place.user, place.index);
  return true;
}

}  // namespace

// %w = aten::_weight_norm(%conv.weight_v, %conv.weight_g, 0)
// %y = aten::conv1d(%x, %w, ...)
//   ->
// %w = prim::GetAttr[name="weight"](%conv)
// %y = aten::conv1d(%x, %w, ...)
//
// One weight at a time, and what nothing reads any more is given up at once, so that the memory of one weight is
// enough.
bool fold_computed_weights(RewriteContext& ctx) {
  constexpr int kMaxRounds = 4;  // a factor is folded below its transposition, then above
  bool changed = false;
  for (int round = 0; round < kMaxRounds; ++round) {
    const auto places = Finder(ctx.model).run();
    if (places.empty()) break;
    bool step = false;
    NewParameters parameters(ctx.model);
    for (const auto& folding : plan(ctx.model, places)) step = fold(ctx, folding, parameters) || step;
    if (!step) break;
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
