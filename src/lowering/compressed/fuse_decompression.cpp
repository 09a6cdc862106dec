#include "lowering/compressed/fuse_decompression.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/packed_rows.h"
#include "numerics/formats.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

/// How one reader of a weight is replaced.
enum class Reader { kLinear, kProduct, kEmbedding, kOther };

Reader reader_of(const Model& model, const Use& use, size_t dims) {
  if (dims != 2) return Reader::kOther;
  if (is_kind(use.user, "aten::linear") && use.offset == 1) return Reader::kLinear;
  const bool product = is_kind(use.user, "aten::matmul") || is_kind(use.user, "aten::mm");
  if (product && use.offset == 1) return Reader::kProduct;
  if (is_plain_addmm(model, use.user) && use.offset == 2) return Reader::kProduct;
  return is_kind(use.user, "aten::embedding") && use.offset == 0 ? Reader::kEmbedding : Reader::kOther;
}

/// Whether the operator multiplies the weight with tensors of its type. Others may read it beside indices.
bool multiplies(const Node* node) {
  static const std::set<std::string> products{"aten::matmul",  "aten::mm",        "aten::bmm",     "aten::addmm",
                                              "aten::baddbmm", "aten::lstm_cell", "aten::gru_cell"};
  return layer_kind(node) != LayerKind::kNone || products.count(node->kind().toQualString()) > 0;
}

/// The layer that reads the list with the weights of all its gates; null for other operators.
Node* recurrent_layer(const Node* list) {
  static const std::set<std::string> layers{"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"};
  if (list->kind() != c10::prim::ListConstruct || list->output()->uses().size() != 1) return nullptr;
  Node* layer = list->output()->uses().front().user;
  const bool known = layers.count(layer->kind().toQualString()) > 0;
  return known && layer->owningBlock() == list->owningBlock() ? layer : nullptr;
}

/// The tensor whose presence keeps freezing from computing the weight: the other factor, or the layer's input. Values
/// get its type.
Value* activation_of(const Model& model, const Use& use) {
  if (const Node* layer = recurrent_layer(use.user)) return const_cast<Value*>(layer->input(0));
  if (!multiplies(use.user)) return nullptr;
  for (size_t i = 0; i < use.user->inputs().size(); ++i) {
    Value* input = use.user->input(i);
    const bool tensor = i != use.offset && input->type()->isSubtypeOf(*c10::TensorType::get());
    if (tensor && !param_of(model, input)) return input;
  }
  return nullptr;
}

using Axes = std::pair<int64_t, int64_t>;

/// The axes to exchange so that scales belong to rows.
c10::optional<Axes> axes_to_swap(const StoredWeight& weight) {
  const QParams q = restore_parameters(weight);
  const auto last = static_cast<int64_t>(weight.shape.size()) - 1;
  if (q.group_size > 0) {
    const int64_t axis = at::maybe_wrap_dim(q.group_axis, last + 1);
    return axis == last ? c10::nullopt : c10::make_optional(Axes{axis, last});
  }
  return q.per_channel && q.axis != 0 ? c10::make_optional(Axes{0, q.axis}) : c10::nullopt;
}

/// Replaces the readers of one weight.
class WeightFuser {
 public:
  WeightFuser(Model& model, const Node* last, const Decompression& found, ActivationMode activations)
      : model_(model), graph_(*model.graph()), found_(found), activations_(activations), uses_(last->output()->uses()) {
    const bool products = std::all_of(
        uses_.begin(), uses_.end(), [&](const Use& use) { return reader_of(model, use, dims()) == Reader::kProduct; });
    if (products) pack(Axes{0, 1});
    if (!rows_) pack(axes_to_swap(found.weight));
  }

  /// Why a reader cannot read packed codes; empty when all can.
  std::string obstacle() const {
    if (!rows_) return "its scales do not belong to rows";
    if (found_.weight.dtype == c10::kDouble) return "kernels compute no float64";
    for (const Use& use : uses_) {
      if (reader(use) == Reader::kOther && !activation_of(model_, use)) {
        return std::string(use.user->kind().toQualString()) + " reads it, which multiplies it with no tensor";
      }
    }
    return "";
  }

  /// @return the operator that reads the codes now
  std::string run(NewParameters& parameters) {
    const auto tensors = store(parameters);
    std::string kernel;
    for (size_t i = 0; i < uses_.size(); ++i) {
      torch::jit::WithInsertPoint guard(uses_[i].user);
      kernel = replace(uses_[i], tensors[i]);
    }
    return kernel;
  }

 private:
  /// What one reader is given: weight, scale, zero point and codebook; constants None for those that there are not.
  using Tensors = std::vector<Value*>;

  size_t dims() const { return found_.weight.shape.size(); }

  void pack(const c10::optional<Axes>& swap) {
    const StoredWeight weight = swap ? swap_axes(found_.weight, swap->first, swap->second) : found_.weight;
    swap_ = swap;
    shape_ = weight.shape;
    rows_ = pack_rows(weight);
  }

  /// Those that a fused operator replaces need the weight as [outputs, inputs].
  Reader reader(const Use& use) const {
    const Reader kind = reader_of(model_, use, dims());
    return swap_.has_value() == (kind == Reader::kProduct) ? kind : Reader::kOther;
  }

  /// Takes the plain operators away and reads the packed tensors, under the old names, in front of every reader.
  std::vector<Tensors> store(NewParameters& parameters) {
    const std::pair<const at::Tensor*, const Value*> places[] = {{&rows_->weight, found_.codes},
                                                                 {&rows_->scale, found_.scale},
                                                                 {&rows_->zero_point, found_.zero_point},
                                                                 {&rows_->codebook, found_.table}};
    std::vector<std::vector<AttributeSlot>> sources;
    for (const auto& place : places) {
      const auto slot = place.second ? slot_of(model_, place.second) : c10::nullopt;
      sources.push_back(slot ? std::vector<AttributeSlot>{*slot} : std::vector<AttributeSlot>{});
    }
    for (const Use& use : uses_) parameters.detach(use.user, use.offset);
    std::vector<Tensors> read(uses_.size());
    for (size_t k = 0; k < sources.size(); ++k) {
      const at::Tensor& tensor = *places[k].first;
      if (tensor.defined()) parameters.store(tensor, sources[k], "");
      for (size_t i = 0; i < uses_.size(); ++i) {
        torch::jit::WithInsertPoint guard(uses_[i].user);
        read[i].push_back(tensor.defined() ? parameters.read() : none());
      }
    }
    return read;
  }

  std::string replace(const Use& use, const Tensors& t) {
    Node* user = use.user;
    const Reader kind = reader(use);
    if (kind == Reader::kLinear || kind == Reader::kProduct) return replace_linear(user, t);
    if (kind == Reader::kEmbedding) {
      replace_reader(
          user, op(user, "tsquant::embedding_compressed",
                   {user->input(1), t[0], t[1], t[2], constant(rows_->format), constant(rows_->size),
                    constant(rows_->group_size), constant(static_cast<int64_t>(found_.weight.dtype)), t[3], none()}));
      return "tsquant::embedding_compressed";
    }
    if (Node* layer = recurrent_layer(user)) user->moveBefore(layer);  // where its input exists
    Node* weight = op(user, "tsquant::decompress",
                      {activation_of(model_, use), t[0], t[1], t[2], constant(rows_->format), constant(shape_),
                       constant(rows_->group_size), t[3], none()});
    if (swap_) {
      weight = op(user, "aten::transpose", {weight->output(), constant(swap_->first), constant(swap_->second)});
    }
    user->replaceInput(use.offset, weight->output());
    return "tsquant::decompress";
  }

  /// The bias that a layer adds itself: one number per output. @return null when there is none
  Value* bias_of(const Node* user) const {
    if (is_kind(user, "aten::linear")) return user->input(2);
    if (!is_kind(user, "aten::addmm")) return nullptr;
    return is_bias(model_, user->input(0), rows_->scale.size(0)) ? const_cast<Value*>(user->input(0)) : nullptr;
  }

  std::string replace_linear(Node* user, const Tensors& t) {
    const bool adds = is_kind(user, "aten::addmm");
    Value* bias = bias_of(user);
    const std::string why_float = why_float_activations();
    const bool dynamic = activations_ == ActivationMode::kDynamic && why_float.empty();
    const char* name = dynamic ? "tsquant::linear_compressed_dynamic" : "tsquant::linear_compressed";
    Node* layer = op(user, name,
                     {user->input(adds ? 1 : 0), t[0], t[1], t[2], bias ? bias : none(), constant(rows_->format),
                      constant(rows_->size), constant(rows_->group_size), t[3], none()});
    if (adds && !bias) layer = op(user, "aten::add", {layer->output(), user->input(0), constant(int64_t{1})});
    replace_reader(user, layer);
    return activations_ == ActivationMode::kDynamic && !dynamic ? name + (": float activations, " + why_float) : name;
  }

  /// Why tsquant::linear_compressed_dynamic refuses the weight; empty when it does not.
  std::string why_float_activations() const {
    constexpr int64_t kMostSummed = 1 << 16;  // of torch_ext/kernels/dynamic_products.h
    if (!format_info(found_.weight.format).integer) return rows_->format + " is no integer format";
    const int64_t summed = rows_->group_size == -1 ? rows_->size : rows_->group_size;
    return summed > kMostSummed ? "groups are too long for sums of 32 bits" : "";
  }

  Value* constant(const c10::IValue& value) { return graph_.insertConstant(value); }
  Value* none() { return constant(c10::IValue()); }

  Node* op(Node* user, const char* kind, const std::vector<Value*>& inputs) {
    Node* node = graph_.insertNode(graph_.create(c10::Symbol::fromQualString(kind), inputs, 1));
    node->copyMetadata(user);
    node->output()->setType(c10::TensorType::get());
    return node;
  }

  static void replace_reader(Node* user, Node* fused) {
    fused->output()->copyMetadata(user->output());
    user->output()->replaceAllUsesWith(fused->output());
    user->destroy();
  }

  Model& model_;
  Graph& graph_;
  const Decompression& found_;
  ActivationMode activations_;
  const torch::jit::use_list uses_;
  c10::optional<Axes> swap_;    ///< of the weight, so that its scales belong to rows
  std::vector<int64_t> shape_;  ///< with these axes exchanged
  c10::optional<PackedRows> rows_;
};

std::string name_of(const Model& model, const Decompression& found) {
  const auto slot = slot_of(model, found.codes);
  return slot ? slot->path : found.codes->debugName();
}

}  // namespace

bool fuse_decompression(Model& model, const std::set<const Node*>& written, std::map<std::string, std::string>& kernels,
                        ActivationMode activations) {
  std::vector<Node*> last_operators = nodes_of_kind(model.graph()->block(), {"aten::to"});
  NewParameters parameters(model);
  bool changed = false;
  for (const Node* last : last_operators) {
    const auto found = read_decompression(model, last->output(), /*check=*/written.count(last) == 0);
    if (!found) continue;
    const std::string name = name_of(model, *found);
    WeightFuser fuser(model, last, *found, activations);
    const std::string obstacle = fuser.obstacle();
    if (!obstacle.empty()) {
      kernels[name] = "plain operators: " + obstacle;
      continue;
    }
    kernels[name] = fuser.run(parameters);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
