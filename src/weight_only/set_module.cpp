#include <fmt/format.h>

#include <unordered_map>

#include "graph/node_lists.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/module_access.h"
#include "weight_only/module_tree.h"
#include "weight_only/wrap_forward.h"

namespace tsquant {

namespace {

using torch::jit::Module;
using torch::jit::Node;
using torch::jit::ObjectPtr;

/// New objects of the same types for all modules, so that their slots can be set.
class ObjectTree {
 public:
  ObjectPtr copy(const ObjectPtr& object) {
    auto& made = made_[object.get()];
    if (made) return made;
    made = object->copy();
    const ObjectPtr result = made;
    for (size_t i = 0; i < object->type()->numAttributes(); ++i) {
      const c10::IValue& value = object->getSlot(i);
      if (object->type()->getAttribute(i)->is_module() && value.isObject()) result->setSlot(i, copy(value.toObject()));
    }
    return result;
  }

 private:
  std::unordered_map<const void*, ObjectPtr> made_;
};

/// The module that holds the last step of the key.
Module parent_of(const Module& model, const std::vector<std::string>& steps, bool strict, const std::string& key) {
  Module parent = model;
  for (size_t i = 0; i + 1 < steps.size(); ++i) parent = step_into(parent, steps[i], true, strict, key);
  for (const char* wrapper : {"sq_linear", "orig_layer"}) {
    const auto wrapped = steps.back() != wrapper ? child_of(parent, wrapper) : c10::nullopt;
    if (wrapped) parent = *wrapped;
  }
  return parent;
}

/// What a call asks of a method that this one does not give; empty when it fits.
std::string misfit(const Node* call, const c10::ClassType& type) {
  const std::string& name = call->s(c10::attr::name);
  auto* method = type.findMethod(name);
  if (!method) return fmt::format("has no method \"{}\"", name);
  const auto& schema = method->getSchema();
  bool fits = schema.arguments().size() == call->inputs().size() &&
              schema.returns().at(0).type()->isSubtypeOf(*call->output()->type());
  for (size_t i = 1; fits && i < call->inputs().size(); ++i) {
    fits = call->input(i)->type()->isSubtypeOf(*schema.arguments()[i].type());
  }
  return fits ? "" : fmt::format("has a method \"{}\" with other arguments or results", name);
}

/// @throws Error kInvalidArgument when some method uses the new module in a way that it does not allow
void check_uses(const Module& model, const Module& placed, const std::string& key) {
  const auto type = placed.type();
  for (const auto& [name, module] : all_modules(model)) {
    for (const auto& method : module.get_methods()) {
      for (const Node* node : all_nodes(method.graph()->block())) {
        if (node->inputs().empty() || *node->input(0)->type() != *type) continue;
        std::string problem;
        if (node->kind() == c10::prim::CallMethod) problem = misfit(node, *type);
        if (node->kind() == c10::prim::GetAttr && !placed.hasattr(node->s(c10::attr::name))) {
          problem = fmt::format("has no attribute \"{}\"", node->s(c10::attr::name));
        }
        if (problem.empty()) continue;
        throw Error(ErrorCode::kInvalidArgument, fmt::format("the new module {} {}", class_name(placed), problem), key,
                    fmt::format("{} of {} needs it", method.name(), name.empty() ? class_name(module) : name));
      }
    }
  }
}

}  // namespace

void set_module(Module& model, const std::string& key, const Module& new_module, bool strict) {
  const auto steps = steps_of(key);
  if (steps.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no name is given", "key", "assign the module to replace the whole model");
  }
  const Module edited(ObjectTree().copy(model._ivalue()));
  const Module parent = parent_of(edited, steps, strict, key);
  const auto replaced = child_of(parent, steps.back());
  if (!replaced) refuse_step(parent, steps.back(), key);
  std::string place;
  for (const auto& [name, module] : all_modules(edited)) {
    if (module == parent) place = name;
  }
  parent._ivalue()->setSlot(parent.type()->getAttributeSlot(steps.back()), new_module._ivalue());
  const Module result = copy_compiled(edited);
  check_uses(result, *child_of(fetch_module(result, place), steps.back()), key);
  model = result;
}

}  // namespace tsquant
