#include "passes/new_parameters.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <vector>

#include "graph/node_lists.h"
#include "graph/other_methods.h"
#include "graph/tensor_values.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

using Path = std::vector<std::string>;

Path split(const std::string& text) {
  Path parts(1);
  for (const char c : text) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// Where a tensor should be kept: the path of the module, and the name in it ("" when nothing suggests one).
struct Home {
  Path owner;
  std::string name;
};

/// torch.nn.utils.parametrize keeps conv.weight in conv.parametrizations.weight.original.
Home home_of(const std::string& path) {
  Home home{split(path), ""};
  const auto found = std::find(home.owner.begin(), home.owner.end(), "parametrizations");
  if (found != home.owner.end() && found + 1 < home.owner.end() - 1) {
    home.name = *(found + 1);
    home.owner.erase(found, home.owner.end());
  } else {
    home.name = home.owner.back();
    home.owner.pop_back();
  }
  return home;
}

template <typename Sequence>
Sequence common_start(const Sequence& a, const Sequence& b) {
  return Sequence(a.begin(), std::mismatch(a.begin(), a.begin() + std::min(a.size(), b.size()), b.begin()).first);
}

/// What all sources have in common: the module, and the start of the name ("weight" for weight_g and weight_v).
Home common_home(const std::vector<AttributeSlot>& sources) {
  Home home = home_of(sources.front().path);
  for (const auto& source : sources) {
    const Home other = home_of(source.path);
    home.owner = common_start(home.owner, other.owner);
    home.name = common_start(home.name, other.name);
  }
  while (!home.name.empty() && home.name.back() == '_') home.name.pop_back();
  constexpr size_t kShortestName = 3;
  if (home.name.size() < kShortestName && sources.size() > 1) home.name.clear();
  return home;
}

}  // namespace

NewParameters::NewParameters(Model& model) : model_(model), nothing_(at::empty({0})) {
  for (const Node* node : all_nodes(model.graph()->block())) {
    if (node->kind() != c10::prim::GetAttr || !carries_tensor(node->output()->type())) continue;
    const auto slot = slot_of(model, node->output());
    if (slot) ++readers_[{slot->owner.get(), slot->name}];
  }
  for (const auto& module : model.module().modules()) objects_[module.type().get()].push_back(module._ivalue());
}

void NewParameters::forget_reader(const Node* attribute) {
  const auto slot = slot_of(model_, attribute->output());
  if (slot && carries_tensor(attribute->output()->type())) --readers_[{slot->owner.get(), slot->name}];
}

namespace {

/// Every node in the blocks of a node, with the nodes that hold the inputs of the blocks.
std::vector<Node*> nodes_inside(Node* node) {
  std::vector<Node*> inside;
  for (Block* block : node->blocks()) {
    inside.push_back(block->param_node());
    inside.push_back(block->return_node());
    for (Node* inner : block->nodes()) {
      inside.push_back(inner);
      const auto deeper = nodes_inside(inner);
      inside.insert(inside.end(), deeper.begin(), deeper.end());
    }
  }
  return inside;
}

}  // namespace

void NewParameters::remove_if_dead(Node* first) {
  // Who is destroyed leaves the set, so that no node is looked at that another one took along.
  std::set<Node*> pending{first};
  while (!pending.empty()) {
    Node* node = *pending.begin();
    pending.erase(pending.begin());
    if (node->kind() == c10::prim::Param || node->hasUses()) continue;
    auto gone = nodes_inside(node);
    gone.push_back(node);
    for (Node* reader : gone) {
      if (reader->kind() == c10::prim::GetAttr) forget_reader(reader);
      for (Value* input : reader->inputs()) pending.insert(input->node());
    }
    for (Node* reader : gone) pending.erase(reader);
    node->destroy();
  }
}

void NewParameters::detach(Node* user, size_t index) {
  Node* old = user->input(index)->node();
  user->replaceInput(index, model_.graph()->inputs().at(0));
  remove_if_dead(old);
}

bool NewParameters::is_free(const AttributeSlot& slot) const {
  const auto readers = readers_.find({slot.owner.get(), slot.name});
  return (readers == readers_.end() || readers->second == 0) && !is_read_by_other_methods(model_, slot);
}

void NewParameters::give_up(const AttributeSlot& slot) {
  if (is_free(slot)) slot.owner->setAttr(slot.name, nothing_);
}

/// A new name, or an attribute that nothing reads: tracing leaves the weight that weight_norm once computed.
bool NewParameters::may_hold(const ObjectPtr& owner, const std::string& name, const at::Tensor& tensor) const {
  const auto type = owner->type();
  if (!type->findAttributeSlot(name)) {
    return !type->findMethod(name) && !type->hasConstant(name) && !type->getProperty(name);
  }
  const auto value = owner->getAttr(name);
  if (!value.isTensor() || !is_free({owner, name, ""})) return false;
  const at::Tensor& old = value.toTensor();
  return !old.defined() || old.numel() == 0 || old.sizes() == tensor.sizes();
}

void NewParameters::set(const ObjectPtr& owner, const std::string& name, const at::Tensor& tensor) {
  const auto type = owner->type();
  if (!type->findAttributeSlot(name)) {
    type->addAttribute(name, c10::TensorType::get(), /*is_parameter=*/true);
    for (const auto& object : objects_[type.get()]) object->setAttr(name, nothing_);
  }
  owner->setAttr(name, tensor);
}

void NewParameters::store(const at::Tensor& tensor, const std::vector<AttributeSlot>& sources,
                          const std::string& wish) {
  stored_.clear();
  constant_ = tensor;
  std::vector<AttributeSlot> free;
  std::copy_if(sources.begin(), sources.end(), std::back_inserter(free),
               [this](const AttributeSlot& slot) { return is_free(slot); });
  for (const auto& slot : free) give_up(slot);
  if (sources.empty()) return;
  Home home = common_home(sources);
  if (sources.size() == 1 && free.size() == 1 && home.name == sources.front().name) {
    set(free.front().owner, free.front().name, tensor);
    stored_ = split(free.front().path);
    return;
  }
  if (home.name.empty()) home.name = wish;
  store_as(tensor, home.owner, home.name);
}

void NewParameters::store_as(const at::Tensor& tensor, const std::vector<std::string>& module,
                             const std::string& wish) {
  auto owner = model_.module()._ivalue();
  for (const auto& name : module) owner = owner->getAttr(name).toObject();
  std::string name = wish;
  for (int number = 1; !may_hold(owner, name, tensor); ++number) name = wish + "_" + std::to_string(number);
  set(owner, name, tensor);
  stored_ = module;
  stored_.push_back(name);
}

Value* NewParameters::read_beside(const at::Tensor& tensor, const c10::optional<AttributeSlot>& source,
                                  const std::string& suffix) {
  stored_.clear();
  constant_ = tensor;
  if (source) {
    auto path = split(source->path);
    path.pop_back();
    store_as(tensor, path, source->name + suffix);
  }
  return read();
}

Value* NewParameters::read() {
  auto graph = model_.graph();
  if (stored_.empty()) return graph->insertConstant(constant_);
  Value* value = graph->inputs().at(0);
  for (const auto& name : stored_) value = graph->insertGetAttr(value, name);
  ++readers_[{slot_of(model_, value)->owner.get(), stored_.back()}];
  value->setType(c10::TensorType::get());
  return value;
}

void NewParameters::attach(Node* user, size_t index) {
  torch::jit::WithInsertPoint guard(user);
  user->replaceInput(index, read());
}

}  // namespace tsquant
