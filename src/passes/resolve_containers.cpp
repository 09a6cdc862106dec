#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <unordered_map>

#include "graph/node_lists.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

/// What an operator does with the container.
enum class Role {
  kWrite,     ///< appends, or sets an item
  kItem,      ///< reads an item that is known now
  kContains,  ///< asks for a key
  kUnpack,    ///< takes all items of a list
  kRead,      ///< reads the container as a whole
  kEscape,    ///< hands it on; who gets it may write it
  kUnknown,
};

struct Entry {
  Value* key;  ///< a constant; null in lists
  Value* value;
};

bool is_tensor(const c10::TypePtr& type) { return type->isSubtypeOf(*c10::TensorType::get()); }

/// Operators that read an argument and return nothing that is the argument itself.
bool reads_argument(const Use& use) {
  const auto* schema = use.user->maybeSchema();
  if (!schema || !use.user->kind().is_aten() || use.offset >= schema->arguments().size()) return false;
  const auto* alias = schema->arguments()[use.offset].alias_info();
  if (alias && alias->isWrite()) return false;
  return std::none_of(use.user->outputs().begin(), use.user->outputs().end(), [&](const Value* output) {
    return alias && (output->type()->cast<c10::ListType>() || output->type()->cast<c10::DictType>());
  });
}

/// One container, from its construction on. All that happens to it happens in the order of the nodes of its block.
class Container {
 public:
  explicit Container(Node* maker) : maker_(maker), made_(maker->output()), block_(maker->owningBlock()) {}

  /// Plans first; a container that cannot be followed to its end is left as it is.
  bool resolve() {
    if (!start()) return false;
    for (const Step& step : ordered_steps()) {
      if (!follow(step)) return false;
    }
    if (!simplifies_) return false;
    for (const Change& change : changes_) apply(change);
    for (Node* writer : writers_) writer->destroy();
    if (!made_->hasUses()) maker_->destroy();
    return true;
  }

 private:
  struct Step {
    Use use;
    Node* anchor;  ///< the node of the container's block in which the use stands
  };
  struct Change {
    Role role;
    Use use;
    std::vector<Entry> entries;
  };

  bool start() {
    if (const auto list = made_->type()->cast<c10::ListType>()) {
      for (Value* input : maker_->inputs()) append(input);
      is_list_ = true;
      return is_tensor(list->getElementType());
    }
    const auto dict = made_->type()->cast<c10::DictType>();
    if (!dict || !is_tensor(dict->getValueType())) return false;
    if (maker_->kind() != c10::prim::DictConstruct) return maker_->inputs().empty();  // aten::dict copies
    for (size_t i = 0; i + 1 < maker_->inputs().size(); i += 2) {
      if (!torch::jit::toIValue(maker_->input(i))) return false;
      set(maker_->input(i), maker_->input(i + 1));
    }
    return true;
  }

  std::vector<Step> ordered_steps() const {
    std::vector<Step> steps;
    for (const Use& use : made_->uses()) {
      Node* anchor = use.user;
      while (anchor->owningBlock() != block_) anchor = anchor->owningBlock()->owningNode();
      steps.push_back({use, anchor});
    }
    std::stable_sort(steps.begin(), steps.end(),
                     [](const Step& a, const Step& b) { return a.anchor != b.anchor && a.anchor->isBefore(b.anchor); });
    return steps;
  }

  Role role_of(const Use& use) const {
    Node* user = use.user;
    const bool first = use.offset == 0, here = user->owningBlock() == block_;
    if (first && is_list_ && user->kind() == c10::aten::append) {
      return here && !user->hasUses() ? Role::kWrite : Role::kUnknown;
    }
    const bool constant_key = first && user->inputs().size() > 1 && torch::jit::toIValue(user->input(1)).has_value();
    if (first && !is_list_ && user->kind() == c10::aten::_set_item) {
      return here && constant_key ? Role::kWrite : Role::kUnknown;
    }
    if (constant_key && user->kind() == c10::aten::__getitem__) return Role::kItem;
    if (constant_key && !is_list_ && user->kind() == c10::aten::__contains__) return Role::kContains;
    if (user->kind() == c10::prim::ListUnpack) return Role::kUnpack;
    if (reads_argument(use)) return Role::kRead;
    return here ? Role::kEscape : Role::kUnknown;
  }

  /// False when the container cannot be resolved.
  bool follow(const Step& step) {
    if (escaped_) return false;
    Node* user = step.use.user;
    const Role role = role_of(step.use);
    switch (role) {
      case Role::kWrite:
        is_list_ ? append(user->input(1)) : set(user->input(1), user->input(2));
        writers_.push_back(user);
        simplifies_ = true;
        return true;
      case Role::kItem: {
        const Entry* entry = item(user->input(1));
        if (!entry) return false;  // the program throws here
        changes_.push_back({role, step.use, {*entry}});
        item_of_[user->output()] = entry->value;
        simplifies_ = simplifies_ || !is_list_;
        return true;
      }
      case Role::kUnpack:
        if (user->outputs().size() != entries_.size()) return false;
        for (size_t i = 0; i < entries_.size(); ++i) item_of_[user->output(i)] = entries_[i].value;
        break;
      case Role::kContains:
        simplifies_ = true;
        break;
      case Role::kRead:
        break;
      case Role::kEscape:
        escaped_ = true;
        break;
      case Role::kUnknown:
        return false;
    }
    changes_.push_back({role, step.use, entries_});
    return true;
  }

  const Entry* find(const std::vector<Entry>& entries, Value* key) const {
    const auto wanted = *torch::jit::toIValue(key);
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const Entry& entry) { return *torch::jit::toIValue(entry.key) == wanted; });
    return found == entries.end() ? nullptr : &*found;
  }

  const Entry* item(Value* key) const {
    if (!is_list_) return find(entries_, key);
    const auto size = static_cast<int64_t>(entries_.size());
    int64_t index = torch::jit::toIValue(key)->toInt();
    if (index < 0) index += size;
    return index >= 0 && index < size ? &entries_[static_cast<size_t>(index)] : nullptr;
  }

  /// An item that was read from this container is the tensor that was put there.
  Value* source_of(Value* value) const {
    const auto item = item_of_.find(value);
    return item == item_of_.end() ? value : item->second;
  }

  void append(Value* value) { entries_.push_back({nullptr, source_of(value)}); }

  /// A key that is there keeps its place.
  void set(Value* key, Value* value) {
    value = source_of(value);
    if (const Entry* known = find(entries_, key)) {
      entries_[static_cast<size_t>(known - entries_.data())].value = value;
    } else {
      entries_.push_back({key, value});
    }
  }

  void apply(const Change& change) {
    Graph& graph = *block_->owningGraph();
    Node* user = change.use.user;
    torch::jit::WithInsertPoint guard(user);
    switch (change.role) {
      case Role::kItem:
        user->output()->replaceAllUsesWith(change.entries.front().value);
        return user->destroy();
      case Role::kContains:
        user->output()->replaceAllUsesWith(graph.insertConstant(find(change.entries, user->input(1)) != nullptr));
        return user->destroy();
      case Role::kUnpack:
        for (size_t i = 0; i < change.entries.size(); ++i) {
          user->output(i)->replaceAllUsesWith(change.entries[i].value);
        }
        return user->destroy();
      default:
        user->replaceInput(change.use.offset, insert_copy(graph, change.entries));
    }
  }

  Value* insert_copy(Graph& graph, const std::vector<Entry>& entries) const {
    std::vector<Value*> keys, values;
    for (const Entry& entry : entries) {
      values.push_back(entry.value);
      if (entry.key) keys.push_back(graph.insertConstant(*torch::jit::toIValue(entry.key)));
    }
    Node* node = nullptr;
    if (is_list_) {
      node = graph.createList(made_->type()->expectRef<c10::ListType>().getElementType(), values);
    } else {
      const auto& type = made_->type()->expectRef<c10::DictType>();
      node = graph.createDict(type.getKeyType(), type.getValueType(), keys, values);
    }
    graph.insertNode(node)->output()->setType(made_->type());
    return node->output();
  }

  Node* maker_;
  Value* made_;
  Block* block_;
  bool is_list_ = false, escaped_ = false;
  bool simplifies_ = false;  ///< something becomes simpler; a list that is only read stays
  std::vector<Entry> entries_;
  std::unordered_map<Value*, Value*> item_of_;
  std::vector<Change> changes_;
  std::vector<Node*> writers_;
};

}  // namespace

// %l = prim::ListConstruct(%a)             %l1 = prim::ListConstruct(%a)
// %b = aten::cat(%l, %1)                   %b = aten::cat(%l1, %1)
// %_ = aten::append(%l, %b)         ->     %l2 = prim::ListConstruct(%a, %b)
// %c = aten::cat(%l, %1)                   %c = aten::cat(%l2, %1)
//
// The same for dictionaries with constant keys; an item that is read is the tensor that was put there. Scripted models
// collect the inputs of aten::cat in this way where a trace has the finished lists, and quantizers do not follow
// tensors through containers that change. LibTorch's RemoveListMutation handles lists that nobody reads before the last
// append.
bool resolve_containers(RewriteContext& ctx) {
  bool changed = false;
  const std::vector<std::string> makers{"prim::ListConstruct", "prim::DictConstruct", "aten::dict"};
  for (Node* maker : nodes_of_kind(ctx.model.graph()->block(), makers)) {
    ctx.at(maker);
    changed |= Container(maker).resolve();
  }
  return changed;
}

}  // namespace tsquant
