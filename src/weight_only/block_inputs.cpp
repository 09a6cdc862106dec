#include <atomic>
#include <stdexcept>

#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/module_tree.h"
#include "weight_only/wrap_forward.h"

namespace tsquant {

namespace {

using torch::jit::Function;
using torch::jit::Module;
using torch::jit::Stack;

/// Of a replaced model: what it was. The attribute's type is Any, so that LibTorch does not count it as a child.
constexpr const char* kOriginal = "_tsquant_original";

/// Set before the exception that ends a run, because the interpreter makes another exception of it.
using StopFlag = std::shared_ptr<std::atomic<bool>>;

/// Functions live as long as LibTorch's compilation unit; what was recorded, as long as somebody wants it.
ForwardCall record_and_stop(const std::weak_ptr<BlockInputs>& inputs, const StopFlag& stopped) {
  return [inputs, stopped](Stack& stack, Function&) {
    if (const auto record = inputs.lock()) record->args.emplace_back(stack.begin() + 1, stack.end());
    *stopped = true;
    throw std::runtime_error("the first block stops the run");
  };
}

ForwardCall run_until_stopped(const StopFlag& stopped, const std::string& block) {
  return [stopped, block](Stack& stack, Function& forward) {
    *stopped = false;
    try {
      forward.run(stack);
    } catch (const std::exception&) {
      if (!*stopped) throw;
      stack = {c10::IValue()};
      return;
    }
    throw Error(ErrorCode::kUnsupportedModel, "forward ended without calling the first block", block,
                "give the model as it was saved from Python; code that is one inlined forward calls no blocks");
  };
}

}  // namespace

std::shared_ptr<const BlockInputs> replace_forward(Module& model) {
  if (model.hasattr(kOriginal)) {
    throw Error(ErrorCode::kInvalidArgument, "the forward of the model is replaced already", class_name(model),
                "call recover_forward first");
  }
  if (!model.find_method("forward")) {
    throw Error(ErrorCode::kUnsupportedModel, "the model has no method forward", class_name(model),
                "export the model with a forward method");
  }
  const std::string prefix = get_block_prefix(model).first;
  Module copy = copy_compiled(model);
  const Module blocks = fetch_module(copy, prefix);
  const auto first = (*blocks.named_children().begin());
  const auto inputs = std::make_shared<BlockInputs>();
  const auto stopped = std::make_shared<std::atomic<bool>>(false);
  wrap_forward(first.value, record_and_stop(inputs, stopped));
  wrap_forward(copy, run_until_stopped(stopped, prefix + "." + first.name));
  copy.register_attribute(kOriginal, c10::AnyType::get(), model._ivalue());
  model = copy;
  return inputs;
}

void recover_forward(Module& model) {
  if (!model.hasattr(kOriginal)) {
    throw Error(ErrorCode::kInvalidArgument, "the forward of the model was not replaced", class_name(model),
                "call replace_forward first, with the same handle");
  }
  model = Module(model.attr(kOriginal).toObject());
}

}  // namespace tsquant
