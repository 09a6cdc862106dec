#include "lowering/compressed/fuse_decompression.h"

#include <ATen/ATen.h>

#include <set>
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

Reader reader_of(const Use& use, size_t dims) {
  if (is_kind(use.user, "aten::linear") && use.offset == 1 && dims == 2) return Reader::kLinear;
  const bool product = is_kind(use.user, "aten::matmul") || is_kind(use.user, "aten::mm");
  if (product && use.offset == 1 && dims == 2) return Reader::kProduct;
  if (is_kind(use.user, "aten::embedding") && use.offset == 0 && dims == 2) return Reader::kEmbedding;
  return Reader::kOther;
}

/// Whether the operator multiplies the weight with tensors of its type. Others may read it beside indices.
bool multiplies(const Node* node) {
  static const std::set<std::string> products{"aten::matmul", "aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"};
  return layer_kind(node) != LayerKind::kNone || products.count(node->kind().toQualString()) > 0;
}

/// The tensor whose presence keeps freezing from computing the weight: the other factor, or the layer's input. Values
/// get its type.
Value* activation_of(const Model& model, const Use& use) {
  if (!multiplies(use.user)) return nullptr;
  for (size_t i = 0; i < use.user->inputs().size(); ++i) {
    Value* input = use.user->input(i);
    const bool tensor = i != use.offset && input->type()->isSubtypeOf(*c10::TensorType::get());
    if (tensor && !param_of(model, input)) return input;
  }
  return nullptr;
}

/// Replaces the readers of one weight.
class WeightFuser {
 public:
  WeightFuser(Model& model, const Node* last, const Decompression& found, ActivationMode activations)
      : model_(model), graph_(*model.graph()), found_(found), activations_(activations), uses_(last->output()->uses()) {
    for (const Use& use : uses_) transpose_ &= reader(use) == Reader::kProduct;
    rows_ = pack_rows(found.weight, transpose_);
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

  Reader reader(const Use& use) const { return reader_of(use, found_.weight.shape.size()); }

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
    if (kind == Reader::kLinear || (kind == Reader::kProduct && transpose_)) {
      Value* bias = kind == Reader::kLinear ? user->input(2) : none();
      const std::string why_float = why_float_activations();
      const bool dynamic = activations_ == ActivationMode::kDynamic && why_float.empty();
      const char* name = dynamic ? "tsquant::linear_compressed_dynamic" : "tsquant::linear_compressed";
      replace_reader(user, op(user, name,
                              {user->input(0), t[0], t[1], t[2], bias, constant(rows_->format), constant(rows_->size),
                               constant(rows_->group_size), t[3], none()}));
      return activations_ == ActivationMode::kDynamic && !dynamic ? name + (": float activations, " + why_float) : name;
    }
    if (kind == Reader::kEmbedding) {
      replace_reader(
          user, op(user, "tsquant::embedding_compressed",
                   {user->input(1), t[0], t[1], t[2], constant(rows_->format), constant(rows_->size),
                    constant(rows_->group_size), constant(static_cast<int64_t>(found_.weight.dtype)), t[3], none()}));
      return "tsquant::embedding_compressed";
    }
    user->replaceInput(use.offset, op(user, "tsquant::decompress",
                                      {activation_of(model_, use), t[0], t[1], t[2], constant(rows_->format),
                                       constant(found_.weight.shape), constant(rows_->group_size), t[3], none()})
                                       ->output());
    return "tsquant::decompress";
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
  bool transpose_ = true;  ///< all readers multiply with the weight on the right
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
