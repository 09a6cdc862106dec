#include <ATen/ATen.h>

#include <set>

#include "graph/dead_code.h"
#include "graph/params.h"
#include "lowering/trainable/trainable_weight.h"
#include "passes/insert_source.h"
#include "passes/source_pattern.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

// Rounding counts as the identity in gradients. Values beyond the levels pass none to the weight but to the parameters
// that set the outermost levels; the others pass the rounding error there (NNCF: QuantizeSymmetric,
// QuantizeAsymmetric).
constexpr const char* kSource = R"(
def symmetric(weight: Tensor, limit: Tensor, groups: List[int], inner: float, step_share: float, shape: List[int],
              dtype: int) -> Tensor:
  x = weight.to(6).reshape(groups)
  step = torch.abs(limit) * step_share
  lowest = torch.minimum(-limit, limit * inner)
  highest = torch.maximum(-limit, limit * inner)
  position = torch.clamp(x, lowest, highest) / step
  code = position + torch.detach(torch.round(position) - position)
  return (code * step).reshape(shape).to(dtype)

def asymmetric(weight: Tensor, low: Tensor, span: Tensor, groups: List[int], steps: float, shape: List[int],
               dtype: int) -> Tensor:
  x = weight.to(6).reshape(groups)
  step = span / steps
  zero_point = torch.clamp(torch.round(-low / step), 0, steps)
  lowest = low + torch.detach(-zero_point * step - low)
  position = (torch.clamp(x, lowest, lowest + span) - lowest) / step
  code = position + torch.detach(torch.round(position) - position)
  return (code * step + lowest).reshape(shape).to(dtype)

def adapted(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
  return weight + torch.matmul(b, a)

def adapted_transposed(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
  return weight + torch.t(torch.matmul(b, a))
)";

// Arguments of these functions by position.
constexpr size_t kWeight = 0, kLimit = 1, kGroups = 2, kStepShare = 4;
constexpr size_t kLow = 1, kSpan = 2, kAsymmetricGroups = 3, kSteps = 4;
constexpr size_t kAdapted = 0, kA = 1, kB = 2;

Value* insert(Node* before, const char* function, const std::vector<Value*>& arguments) {
  return insert_source(before, kSource, function, arguments, {}, [](const auto&) {}).at(0);
}

c10::optional<at::Tensor> tensor_of(const Model& model, const Value* value) {
  const auto parameter = param_of(model, value);
  return parameter ? c10::optional<at::Tensor>(parameter->tensor) : c10::nullopt;
}

c10::optional<double> number_of(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  return constant && constant->isDouble() ? c10::optional<double>(constant->toDouble()) : c10::nullopt;
}

/// Adapters by the operator that adds them.
std::map<const Node*, SourcePattern::Match> adapters_of(Model& model, const char* function) {
  std::map<const Node*, SourcePattern::Match> found;
  for (auto& match : SourcePattern(kSource, function).find(*model.graph())) found.emplace(match.last, match);
  return found;
}

class TrainableReader {
 public:
  explicit TrainableReader(Model& model)
      : model_(model),
        straight_(adapters_of(model, "adapted")),
        transposed_(adapters_of(model, "adapted_transposed")) {}

  void read(bool is_symmetric, std::vector<FoundTrainable>& found) const {
    const char* function = is_symmetric ? "symmetric" : "asymmetric";
    for (const auto& match : SourcePattern(kSource, function).find(*model_.graph())) {
      FoundTrainable trainable{match.last, match.arguments[kWeight], {}};
      if (read_adapters(trainable) && read_quantizer(match, is_symmetric, trainable.weight)) {
        found.push_back(std::move(trainable));
      }
    }
  }

 private:
  /// The weight itself, and what is added to it. @return whether all of it is stored
  bool read_adapters(FoundTrainable& trainable) const {
    const Node* sum = trainable.value->node();
    for (const auto* kind : {&straight_, &transposed_}) {
      const auto match = kind->find(sum);
      if (match == kind->end()) continue;
      const auto a = tensor_of(model_, match->second.arguments[kA]);
      const auto b = tensor_of(model_, match->second.arguments[kB]);
      if (!a || !b) return false;
      trainable.value = match->second.arguments[kAdapted];
      trainable.weight.lora_a = *a;
      trainable.weight.lora_b = *b;
      trainable.weight.is_transposed = kind == &transposed_;
    }
    const auto weight = tensor_of(model_, trainable.value);
    if (weight) trainable.weight.weight = *weight;
    return weight.has_value();
  }

  bool read_quantizer(const SourcePattern::Match& match, bool is_symmetric, TrainableWeight& weight) const {
    const auto groups = constant_of(model_, match.arguments[is_symmetric ? kGroups : kAsymmetricGroups]);
    const auto number = number_of(model_, match.arguments[is_symmetric ? kStepShare : kSteps]);
    const auto first = tensor_of(model_, match.arguments[is_symmetric ? kLimit : kLow]);
    const auto second = is_symmetric ? first : tensor_of(model_, match.arguments[kSpan]);
    if (!groups || !groups->isIntList() || !number || !first || !second) return false;
    weight.groups = groups->toIntVector();
    weight.levels = std::lround(is_symmetric ? 2 / *number : *number + 1);
    (is_symmetric ? weight.limit : weight.low) = *first;
    if (!is_symmetric) weight.range = *second;
    return true;
  }

  Model& model_;
  std::map<const Node*, SourcePattern::Match> straight_, transposed_;
};

/// A tensor of the same memory that belongs to this model alone.
at::Tensor own(const at::Tensor& tensor, bool requires_grad) {
  return tensor.detach().set_requires_grad(requires_grad);
}

}  // namespace

void insert_trainable_weight(Model& model, NewParameters& parameters, const std::vector<ParameterUse>& uses,
                             const TrainableWeight& weight) {
  auto graph = model.graph();
  const auto slot = slot_of(model, uses.front().first->input(uses.front().second));
  Node* reader = insert_reader(model, uses, "aten::alias");
  set_param(model, reader, 0, weight.weight);
  torch::jit::WithInsertPoint guard(reader);
  const auto beside = [&](const char* suffix, const at::Tensor& tensor) {
    return parameters.read_beside(tensor, slot, suffix);
  };
  Value* x = reader->input(0);
  if (weight.lora_a.defined()) {
    Value* a = beside("_lora_A", weight.lora_a);
    Value* b = beside("_lora_B", weight.lora_b);
    x = insert(reader, weight.is_transposed ? "adapted_transposed" : "adapted", {x, a, b});
  }
  const auto levels = static_cast<double>(weight.levels);
  Value* groups = graph->insertConstant(weight.groups);
  Value* shape = graph->insertConstant(weight.weight.sizes().vec());
  Value* dtype = graph->insertConstant(static_cast<int64_t>(weight.weight.scalar_type()));
  if (weight.limit.defined()) {
    Value* limit = beside("_limit", weight.limit);
    x = insert(
        reader, "symmetric",
        {x, limit, groups, graph->insertConstant(1 - 2 / levels), graph->insertConstant(2 / levels), shape, dtype});
  } else {
    Value* low = beside("_low", weight.low);
    Value* range = beside("_range", weight.range);
    x = insert(reader, "asymmetric", {x, low, range, groups, graph->insertConstant(levels - 1), shape, dtype});
  }
  reader->output()->replaceAllUsesWith(x);
  reader->destroy();
}

std::vector<FoundTrainable> find_trainable_weights(Model& model) {
  std::vector<FoundTrainable> found;
  const TrainableReader reader(model);
  reader.read(/*is_symmetric=*/true, found);
  reader.read(/*is_symmetric=*/false, found);
  return found;
}

void require_gradients(Model& model) {
  std::set<const c10::TensorImpl*> trained;
  for (const auto& found : find_trainable_weights(model)) {
    const TrainableWeight& w = found.weight;
    for (const auto& tensor : {w.limit, w.low, w.range, w.lora_a, w.lora_b}) {
      if (tensor.defined()) trained.insert(tensor.unsafeGetTensorImpl());
    }
    if (!w.lora_a.defined()) trained.insert(w.weight.unsafeGetTensorImpl());
  }
  std::map<const c10::TensorImpl*, at::Tensor> owned;  // one for all places that share a tensor
  for (const auto& module : model.module().modules()) {
    for (const auto& attribute : module.named_attributes(/*recurse=*/false)) {
      if (!attribute.value.isTensor() || !attribute.value.toTensor().defined()) continue;
      const at::Tensor tensor = attribute.value.toTensor();
      const auto* key = tensor.unsafeGetTensorImpl();
      const auto entry = owned.emplace(key, own(tensor, trained.count(key) > 0)).first;
      module._ivalue()->setAttr(attribute.name, entry->second);
    }
  }
}

}  // namespace tsquant
