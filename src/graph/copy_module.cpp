#include "graph/copy_module.h"

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/attribute_slots.h"
#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Function;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

using ObjectPtr = c10::intrusive_ptr<c10::ivalue::Object>;
using AttributeKey = std::pair<const c10::Type*, std::string>;

/// The graphs that a node holds besides its blocks: what prim::fork runs.
std::vector<c10::Symbol> subgraph_names(const Node* node) {
  std::vector<c10::Symbol> names;
  for (const c10::Symbol name : node->attributeNames()) {
    if (node->kindOf(name) == torch::jit::AttributeKind::g) names.push_back(name);
  }
  return names;
}

/// Attributes of type interface that a method assigns: which module they hold is known at run time only.
void collect_assigned(Block* block, std::set<AttributeKey>& assigned) {
  for (Node* node : all_nodes(block)) {
    for (const c10::Symbol name : subgraph_names(node)) collect_assigned(node->g(name)->block(), assigned);
    if (node->kind() != c10::prim::SetAttr || !node->input(1)->type()->is_module()) continue;
    assigned.emplace(node->input(0)->type().get(), node->s(c10::attr::name));
  }
}

struct TypesHash {
  size_t operator()(const std::vector<const c10::Type*>& types) const {
    size_t hash = 0;
    for (const c10::Type* type : types) hash = hash * 31 + std::hash<const void*>()(type);
    return hash;
  }
};

class Copier {
 public:
  explicit Copier(const Module& root, std::shared_ptr<torch::jit::CompilationUnit> unit, bool plain_names)
      : unit_(std::move(unit)), plain_names_(plain_names) {
    for (const auto& module : root.modules()) {
      for (Function* method : module.type()->methods()) {
        if (auto* function = torch::jit::tryToGraphFunction(*method)) {
          collect_assigned(function->graph()->block(), assigned_);
        }
      }
    }
  }

  ObjectPtr copy(const ObjectPtr& object) {
    const auto seen = objects_.find(object.get());
    if (seen != objects_.end()) return seen->second;
    const auto type = object->type();
    std::vector<c10::IValue> slots;
    std::vector<const c10::Type*> children{type.get()};
    for (size_t i = 0; i < type->numAttributes(); ++i) {
      c10::IValue value = object->getSlot(i);
      if (type->getAttribute(i)->is_module() && value.isObject()) {
        value = copy(value.toObject());
        children.push_back(value.toObject()->type().get());
      }
      slots.push_back(std::move(value));
    }
    auto& new_type = types_[children];
    const bool is_new = !new_type;
    const Module made = is_new ? Module(name_of(*type), unit_, /*shouldMangle=*/true) : Module(unit_, new_type);
    if (is_new) {
      new_type = made.type();
      add_attributes(*type, slots, *new_type);
      add_constants(*type, *new_type);
      replaced_[type.get()] = new_type;
    }
    for (size_t i = 0; i < slots.size(); ++i) made._ivalue()->setSlot(i, std::move(slots[i]));
    if (is_new) add_functions(type, new_type);
    objects_.emplace(object.get(), made._ivalue());
    return made._ivalue();
  }

  /// Values that hold modules take over the types of the attributes that they were read from.
  void give_types(Block* block) {
    for (Node* node : block->nodes()) {
      for (Value* output : node->outputs()) {
        const auto replaced = replaced_.find(output->type().get());
        if (replaced != replaced_.end()) output->setType(replaced->second);
      }
      const auto owner = node->kind() == c10::prim::GetAttr ? node->input()->type()->cast<c10::ClassType>() : nullptr;
      if (owner && owner->is_module()) {
        const auto slot = find_attribute_slot(*owner, node->s(c10::attr::name));
        if (slot && owner->getAttribute(*slot)->is_module()) node->output()->setType(owner->getAttribute(*slot));
      }
      for (Block* inner : node->blocks()) give_types(inner);
      for (const c10::Symbol name : subgraph_names(node)) give_subgraph(node, name);
    }
  }

 private:
  /// `__torch__.___torch_mangle_6.Net` is a copy of `__torch__.Net`.
  c10::QualifiedName name_of(const c10::ClassType& type) const {
    if (!plain_names_) return *type.name();
    std::vector<std::string> atoms;
    for (const auto& atom : type.name()->atoms()) {
      if (atom.rfind("___torch_mangle_", 0) != 0) atoms.push_back(atom);
    }
    return c10::QualifiedName(atoms);
  }

  void add_attributes(const c10::ClassType& from, const std::vector<c10::IValue>& slots, c10::ClassType& to) const {
    for (size_t i = 0; i < slots.size(); ++i) {
      auto type = from.getAttribute(i);
      const auto& name = from.getAttributeName(i);
      if (type->is_module() && slots[i].isObject()) {
        const bool fixed = type->kind() == c10::TypeKind::ClassType || !assigned_.count({&from, name});
        if (fixed) type = slots[i].toObject()->type();
      }
      to.addAttribute(name, type, from.is_parameter(i), from.is_buffer(i));
    }
  }

  static void add_constants(const c10::ClassType& from, c10::ClassType& to) {
    for (size_t i = 0; i < from.numConstants(); ++i) to.addConstant(from.getConstantName(i), from.getConstant(i));
  }

  void add_functions(const c10::ClassTypePtr& from, const c10::ClassTypePtr& to) {
    std::unordered_map<const Function*, Function*> made;
    const auto copy_once = [&](Function* function) {
      auto& copy = made[function];
      if (!copy) copy = copy_function(*function, from, to);
      return copy;
    };
    for (Function* method : from->methods()) to->addMethod(copy_once(method));
    for (Function* hook : from->getForwardPreHooks()) to->addForwardPreHook(copy_once(hook));
    for (Function* hook : from->getForwardHooks()) to->addForwardHook(copy_once(hook));
    for (const auto& property : from->properties()) {
      to->addProperty(property.name, copy_once(property.getter),
                      property.setter ? copy_once(property.setter) : nullptr);
    }
  }

  Function* copy_function(Function& function, const c10::ClassTypePtr& from, const c10::ClassTypePtr& to) {
    auto graph = torch::jit::toGraphFunction(function).graph()->copy();
    if (!graph->inputs().empty() && *graph->inputs()[0]->type() == *from) graph->inputs()[0]->setType(to);
    give_types(graph->block());
    auto* copy = unit_->create_function(c10::QualifiedName(*to->name(), function.name()), graph);
    copy->setSchema(function.getSchema().cloneWithRemappedTypes(
        [&](const c10::TypePtr& type) -> c10::TypePtr { return *type == *from ? c10::TypePtr(to) : type; }));
    return copy;
  }

  /// Copies of a graph share what its prim::fork nodes run, so that has to be copied, too.
  void give_subgraph(Node* node, c10::Symbol name) {
    auto graph = node->g(name)->copy();
    for (size_t i = 0; i < graph->inputs().size() && i < node->inputs().size(); ++i) {
      if (node->input(i)->type()->is_module()) graph->inputs()[i]->setType(node->input(i)->type());
    }
    give_types(graph->block());
    node->g_(name, graph);
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  bool plain_names_;
  std::set<AttributeKey> assigned_;
  std::unordered_map<const c10::ivalue::Object*, ObjectPtr> objects_;
  /// By the original type followed by the new types of the submodules.
  std::unordered_map<std::vector<const c10::Type*>, c10::ClassTypePtr, TypesHash> types_;
  std::unordered_map<const c10::Type*, c10::ClassTypePtr> replaced_;  ///< for values that no attribute gives a type
};

}  // namespace

Module copy_module(const Module& module) {
  return Module(Copier(module, module._ivalue()->compilation_unit(), false).copy(module._ivalue()));
}

Module copy_for_file(const Module& module) {
  return Module(Copier(module, std::make_shared<torch::jit::CompilationUnit>(), true).copy(module._ivalue()));
}

void replace_forward(const Module& module, Graph& body) {
  auto graph = module.get_method("forward").graph();
  while (!graph->outputs().empty()) graph->eraseOutput(0);
  const std::vector<Node*> nodes(graph->nodes().begin(), graph->nodes().end());
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) (*node)->destroy();
  torch::jit::WithInsertPoint guard(graph->block());
  for (Value* output : torch::jit::insertGraph(*graph, body, graph->inputs())) graph->registerOutput(output);
  Copier(module, module._ivalue()->compilation_unit(), false).give_types(graph->block());
}

}  // namespace tsquant
