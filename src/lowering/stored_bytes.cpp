#include <torch/csrc/jit/ir/constants.h>

#include <unordered_set>

#include "graph/node_lists.h"
#include "lowering/lowering.h"

namespace tsquant {

namespace {

/// Sums the storages of all tensors, each once.
class ByteCounter {
 public:
  int64_t total() const { return total_; }

  void add(const c10::IValue& value) {
    value.visit([this](const c10::IValue& part) {
      if (part.isTensor()) add_tensor(part.toTensor());
      if (!part.isObject()) return false;
      if (objects_.insert(part.toObject().get()).second && !add_packed(part)) add_slots(part.toObjectRef());
      return true;  // not into it
    });
  }

 private:
  /// LibTorch's visit looks every attribute up by name, which takes quadratic time.
  void add_slots(const c10::ivalue::Object& object) {
    for (const auto& slot : object.slots()) add(slot);
  }

  void add_tensor(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return;
    if (!storages_.insert(tensor.storage().unsafeGetStorageImpl()).second) return;
    kept_.push_back(tensor);
    total_ += static_cast<int64_t>(tensor.storage().nbytes());
    if (tensor.is_quantized() && tensor.qscheme() == c10::kPerChannelAffine) {
      add_tensor(tensor.q_per_channel_scales());
      add_tensor(tensor.q_per_channel_zero_points());
    }
  }

  /// Packed weights are written as what their __getstate__ returns. @return whether the object holds such
  bool add_packed(const c10::IValue& value) {
    const auto type = value.toObject()->type();
    auto* pack = type->is_module() ? nullptr : type->findMethod("__getstate__");
    if (!pack) return false;
    torch::jit::Stack stack{value};
    pack->run(stack);
    add(stack.back());
    return true;
  }

  int64_t total_ = 0;
  std::unordered_set<const void*> storages_, objects_;
  std::vector<at::Tensor> kept_;  // keeps addresses from being reused while counting
};

}  // namespace

int64_t stored_bytes(const Model& model) {
  ByteCounter counter;
  counter.add(c10::IValue(model.module()._ivalue()));
  std::unordered_set<const c10::ClassType*> seen;
  for (const auto& module : model.module().modules()) {
    if (!seen.insert(module.type().get()).second) continue;
    for (auto* method : module.type()->methods()) {
      const auto* function = torch::jit::tryToGraphFunction(*method);
      if (!function) continue;
      for (auto* node : all_nodes(function->graph()->block())) {
        if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
        if (const auto value = torch::jit::toIValue(node->output())) counter.add(*value);
      }
    }
  }
  return counter.total();
}

}  // namespace tsquant
