#include "weight_only/wrap_forward.h"

#include <ATen/core/builtin_function.h>
#include <fmt/format.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <cctype>
#include <mutex>
#include <string>

#include "graph/copy_module.h"
#include "tsquant/error.h"
#include "weight_only/module_tree.h"

namespace tsquant {

namespace {

using torch::jit::BuiltinOpFunction;
using torch::jit::Function;
using torch::jit::Stack;

bool is_forward(const std::string& name) {
  constexpr size_t kLength = 7;
  return name.compare(0, kLength, "forward") == 0 &&
         std::all_of(name.begin() + kLength, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

torch::jit::Module copy_compiled(const torch::jit::Module& module) {
  for (const auto& [name, part] : all_modules(module)) {
    for (const Function* method : part.type()->methods()) {
      if (method->isGraphFunction()) continue;
      throw Error(ErrorCode::kInvalidArgument, "the forward of the module is replaced",
                  name.empty() ? class_name(part) : name, "call recover_forward first");
    }
  }
  return copy_module(module);
}

void wrap_forward(const torch::jit::Module& module, const ForwardCall& call) {
  static int64_t count = 0;
  static std::mutex mutex;  // also for LibTorch's list of functions
  const std::lock_guard<std::mutex> lock(mutex);
  const auto type = module.type();
  const auto methods = type->methods();  // a copy, because they change
  for (Function* method : methods) {
    if (!is_forward(method->name())) continue;
    const size_t arguments = method->getSchema().arguments().size();
    const void* object = module._ivalue().get();
    auto run = [object, method, arguments, call](Stack& stack) {
      const auto begin = stack.end() - static_cast<std::ptrdiff_t>(arguments);
      Stack own(begin, stack.end());
      stack.erase(begin, stack.end());
      if (own.at(0).toObject().get() == object) {
        call(own, *method);
      } else {
        method->run(own);
      }
      stack.push_back(std::move(own.at(0)));
    };
    const c10::QualifiedName place(*type->name(), fmt::format("wrapped_{}", count++));
    auto wrapper = std::make_unique<BuiltinOpFunction>(c10::QualifiedName(place, method->name()), method->getSchema(),
                                                       std::move(run));
    type->unsafeRemoveMethod(method->name());
    type->addMethod(wrapper.get());
    torch::registerCustomClassMethod(std::move(wrapper));  // types do not own their methods
  }
}

}  // namespace tsquant
