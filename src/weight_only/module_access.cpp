#include "weight_only/module_access.h"

#include <fmt/format.h>

#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/module_tree.h"

namespace tsquant {

namespace {

using torch::jit::Module;

std::string children_text(const Module& module) {
  constexpr size_t kMost = 40;
  std::vector<std::string> names;
  for (const auto& child : module.named_children()) names.push_back(child.name);
  if (names.empty()) return "it has no children";
  const bool long_list = names.size() > kMost;
  if (long_list) names.resize(kMost);
  return fmt::format("there are: {}{}", fmt::join(names, ", "), long_list ? ", ..." : "");
}

Module walk(const Module& model, const std::string& key, bool see_wrappers, bool strict) {
  Module module = model;
  for (const auto& name : steps_of(key)) module = step_into(module, name, see_wrappers, strict, key);
  return module;
}

}  // namespace

std::vector<std::string> steps_of(const std::string& key) {
  std::vector<std::string> steps;
  if (key.empty()) return steps;
  size_t begin = 0;
  for (size_t end = key.find('.'); end != std::string::npos; end = key.find('.', begin)) {
    steps.push_back(key.substr(begin, end - begin));
    begin = end + 1;
  }
  steps.push_back(key.substr(begin));
  return steps;
}

void refuse_step(const Module& module, const std::string& name, const std::string& key) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("a module {} has no child \"{}\"", class_name(module), name),
              key, children_text(module));
}

Module step_into(const Module& module, const std::string& name, bool see_wrappers, bool strict,
                 const std::string& key) {
  if (const auto child = child_of(module, name)) return *child;
  for (const char* wrapper : {"sq_linear", "orig_layer"}) {
    const auto wrapped = see_wrappers ? child_of(module, wrapper) : c10::nullopt;
    const auto child = wrapped ? child_of(*wrapped, name) : c10::nullopt;
    if (child) return *child;
  }
  if (strict) refuse_step(module, name, key);
  return module;
}

Module get_module(const Module& model, const std::string& key, bool strict) { return walk(model, key, true, strict); }

Module fetch_module(const Module& model, const std::string& op_name, bool strict) {
  return walk(model, op_name, false, strict);
}

std::pair<std::string, int64_t> get_block_prefix(const Module& model) {
  for (const auto& [name, module] : all_modules(model)) {
    if (class_name(module) != "ModuleList") continue;
    const auto length = static_cast<int64_t>(module.named_children().size());
    if (length > 0) return {name, length};
    throw Error(ErrorCode::kUnsupportedModel, "the first ModuleList of the model is empty", name,
                "the blocks of the model have to be in the first ModuleList");
  }
  throw Error(ErrorCode::kUnsupportedModel, "the model has no ModuleList, in which blocks are looked for",
              class_name(model), children_text(model));
}

}  // namespace tsquant
