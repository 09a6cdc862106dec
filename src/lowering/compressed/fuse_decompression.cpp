#include "lowering/compressed/fuse_decompression.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/packed_rows.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool is_kind(const Node* node, const char* kind) { return node->kind() == c10::Symbol::fromQualString(kind); }

/// How one reader of a weight is replaced.
enum class Reader { kLinear, kProduct, kEmbedding, kOther };

Reader reader_of(const torch::jit::Use& use, size_t dims) {
  if (is_kind(use.user, "aten::linear") && use.offset == 1 && dims == 2) return Reader::kLinear;
  const bool product = is_kind(use.user, "aten::matmul") || is_kind(use.user, "aten::mm");
  if (product && use.offset == 1 && dims == 2) return Reader::kProduct;
  if (is_kind(use.user, "aten::embedding") && use.offset == 0 && dims == 2) return Reader::kEmbedding;
  return Reader::kOther;
}

/// The tensor whose presence keeps freezing from computing the weight: the other factor, or the layer's input.
Value* activation_of(const Model& model, const torch::jit::Use& use) {
  for (size_t i = 0; i < use.user->inputs().size(); ++i) {
    Value* input = use.user->input(i);
    const bool tensor = i != use.offset && input->type()->isSubtypeOf(*c10::TensorType::get());
    if (tensor && !param_of(model, input)) return input;
  }
  return nullptr;
}

/// Replaces the readers of one weight. Tensors are given as constants first and stored under their names when the plain
/// operators are gone.
class WeightFuser {
 public:
  WeightFuser(Model& model, Node* last, const StoredWeight& stored)
      : model_(model), graph_(*model.graph()), last_(last), stored_(stored) {}

  /// Empty when all readers read packed codes now; otherwise why one does not.
  std::string run() {
    const auto uses = last_->output()->uses();
    bool transpose = true;
    for (const auto& use : uses) transpose &= reader_of(use, stored_.shape.size()) == Reader::kProduct;
    rows_ = pack_rows(stored_, transpose);
    if (!rows_) return "its scales do not belong to rows";
    for (const auto& use : uses) {
      const Reader reader = reader_of(use, stored_.shape.size());
      if (reader == Reader::kOther && !activation_of(model_, use)) return "no tensor beside it keeps it from freezing";
    }
    for (const auto& use : uses) replace(use, transpose);
    return "";
  }

  const std::string& kernel() const { return kernel_; }

 private:
  void replace(const torch::jit::Use& use, bool transpose) {
    const Reader reader = reader_of(use, stored_.shape.size());
    torch::jit::WithInsertPoint guard(use.user);
    const bool linear = reader == Reader::kLinear || (reader == Reader::kProduct && transpose);
    if (linear) {
      Value* bias = reader == Reader::kLinear ? use.user->input(2) : graph_.insertConstant(c10::IValue());
      finish(use, "tsquant::linear_compressed",
             {use.user->input(0), nullptr, nullptr, nullptr, bias, constant(rows_->format), constant(rows_->size),
              constant(rows_->group_size), nullptr, none()},
             1, /*whole=*/true);
    } else if (reader == Reader::kEmbedding) {
      finish(use, "tsquant::embedding_compressed",
             {use.user->input(1), nullptr, nullptr, nullptr, constant(rows_->format), constant(rows_->size),
              constant(rows_->group_size), constant(static_cast<int64_t>(stored_.dtype)), nullptr, none()},
             1, /*whole=*/true);
    } else {
      finish(use, "tsquant::decompress",
             {activation_of(model_, use), nullptr, nullptr, nullptr, constant(rows_->format), constant(stored_.shape),
              constant(rows_->group_size), nullptr, none()},
             1, /*whole=*/false);
    }
  }

  Value* constant(const c10::IValue& value) { return graph_.insertConstant(value); }
  Value* none() { return constant(c10::IValue()); }

  /// @param inputs null where a tensor of the weight belongs: weight, scale, zero point, codebook
  /// @param whole the reader itself is replaced, not just its weight
  void finish(const torch::jit::Use& use, const char* kind, std::vector<Value*> inputs, size_t first, bool whole) {
    const at::Tensor* tensors[] = {&rows_->weight, &rows_->scale, &rows_->zero_point, &rows_->codebook};
    std::vector<std::pair<size_t, const at::Tensor*>> places;
    for (size_t i = first, next = 0; i < inputs.size(); ++i) {
      if (inputs[i]) continue;
      const at::Tensor& tensor = *tensors[next++];
      inputs[i] = tensor.defined() ? graph_.inputs().at(0) : none();
      if (tensor.defined()) places.emplace_back(i, &tensor);
    }
    Node* node = graph_.insertNode(graph_.create(c10::Symbol::fromQualString(kind), inputs, 1));
    node->copyMetadata(use.user);
    node->output()->setType(c10::TensorType::get());
    for (const auto& [index, tensor] : places) readers_.push_back({node, index, tensor});
    kernel_ = kind;
    if (!whole) {
      use.user->replaceInput(use.offset, node->output());
      return;
    }
    node->output()->copyMetadata(use.user->output());
    use.user->output()->replaceAllUsesWith(node->output());
    use.user->destroy();
  }

 public:
  struct TensorReader {
    Node* node;
    size_t index;
    const at::Tensor* tensor;
  };
  const std::vector<TensorReader>& readers() const { return readers_; }
  const PackedRows& rows() const { return *rows_; }

 private:
  Model& model_;
  Graph& graph_;
  Node* last_;
  const StoredWeight& stored_;
  c10::optional<PackedRows> rows_;
  std::string kernel_;
  std::vector<TensorReader> readers_;
};

/// A parameter that the plain operators read, by what it is.
struct ChainParameters {
  c10::optional<AttributeSlot> codes, scale, zero_point, table;
};

void find_parameters(const Model& model, const Value* value, ChainParameters& found) {
  if (const auto slot = slot_of(model, value)) {
    const auto ends_with = [&](const std::string& suffix) {
      return slot->name.size() > suffix.size() &&
             slot->name.compare(slot->name.size() - suffix.size(), suffix.size(), suffix) == 0;
    };
    (ends_with("_scale")        ? found.scale
     : ends_with("_zero_point") ? found.zero_point
     : ends_with("_table")      ? found.table
                                : found.codes) = slot;
    return;
  }
  for (const Value* input : value->node()->inputs()) find_parameters(model, input, found);
}

/// Takes a chain of operators away that nobody reads.
void destroy_unused(Node* node) {
  if (node->kind() == c10::prim::Param || node->hasUses()) return;
  std::vector<Node*> producers;
  for (Value* input : node->inputs()) producers.push_back(input->node());
  forget_access(node);
  node->destroy();
  for (size_t i = 0; i < producers.size(); ++i) {
    const bool again = std::find(producers.begin(), producers.begin() + static_cast<std::ptrdiff_t>(i), producers[i]) !=
                       producers.begin() + static_cast<std::ptrdiff_t>(i);
    if (!again) destroy_unused(producers[i]);
  }
}

std::string name_of(const ChainParameters& found, const Node* last) {
  return found.codes ? found.codes->path : last->output()->debugName();
}

}  // namespace

bool fuse_decompression(Model& model, std::map<std::string, std::string>& kernels) {
  std::vector<Node*> last_operators;
  for (Node* node : all_nodes(model.graph()->block())) {
    if (is_kind(node, "aten::to") && node->outputs().size() == 1) last_operators.push_back(node);
  }
  bool changed = false;
  for (Node* last : last_operators) {
    const auto stored = read_decompression(model, last->output());
    if (!stored) continue;
    ChainParameters old;
    find_parameters(model, last->output(), old);
    WeightFuser fuser(model, last, *stored);
    const std::string reason = fuser.run();
    kernels[name_of(old, last)] = reason.empty() ? fuser.kernel() : "plain operators: " + reason;
    if (!reason.empty()) continue;
    destroy_unused(last);
    const PackedRows& rows = fuser.rows();
    NewParameters parameters(model);
    const std::pair<const at::Tensor*, c10::optional<AttributeSlot>> places[] = {{&rows.weight, old.codes},
                                                                                 {&rows.scale, old.scale},
                                                                                 {&rows.zero_point, old.zero_point},
                                                                                 {&rows.codebook, old.table}};
    for (const auto& [tensor, slot] : places) {
      if (!tensor->defined()) continue;
      parameters.store(*tensor, slot ? std::vector<AttributeSlot>{*slot} : std::vector<AttributeSlot>{}, "");
      for (const auto& reader : fuser.readers()) {
        if (reader.tensor == tensor) parameters.attach(reader.node, reader.index);
      }
    }
    changed = true;
  }
  return changed;
}

}  // namespace tsquant
