#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// A tensor that the graph reads from the module (GetAttr chain) or holds as a constant.
struct ParamRef {
  std::string name;  ///< state-dict name ("layer1.0.conv1.weight"), or "" for a constant
  at::Tensor tensor;
};

/// The parameter, buffer or constant tensor behind a value; nullopt when it is neither, or when the attribute is
/// written by a SetAttr in any method of the module (then its content is not known).
c10::optional<ParamRef> param_of(const Model& model, const torch::jit::Value* value);

/// The tensor behind an optional argument, undefined for None; nullopt when its content is not known.
c10::optional<at::Tensor> optional_param_of(const Model& model, const torch::jit::Value* value);

/// Value of an attribute chain's slot: the object that owns it and the attribute name. nullopt when `value` is no
/// GetAttr chain that starts at self.
struct AttributeSlot {
  c10::intrusive_ptr<c10::ivalue::Object> owner;
  std::string name, path;  ///< "weight", "layer1.0.conv1.weight"
  size_t index = 0;        ///< of the slot in the owner
  const c10::IValue& value() const;
};
c10::optional<AttributeSlot> slot_of(const Model& model, const torch::jit::Value* value);

class AccessIndex;

/// Answers param_of and slot_of for many values of one graph in linear time. Valid until the graph is edited.
class ParamIndex {
 public:
  explicit ParamIndex(const Model& model);
  ~ParamIndex();
  c10::optional<ParamRef> find(const torch::jit::Value* value) const;
  c10::optional<AttributeSlot> slot(const torch::jit::Value* value) const;

 private:
  std::unique_ptr<const AccessIndex> index_;
  std::function<bool(const AttributeSlot&)> written_elsewhere_;
};

/// While it lives, all functions here answer for this model in constant time, on this thread; without one, each
/// question searches the graph from self down to the attribute. Meanwhile operators may come and go, and uses change,
/// but no GetAttr or SetAttr may be made, or destroyed without `forget_access`, and nothing may begin to write
/// parameters.
class ParamScope {
 public:
  explicit ParamScope(const Model& model);
  ~ParamScope();
  ParamScope(const ParamScope&) = delete;
  ParamScope& operator=(const ParamScope&) = delete;
};

/// To be called before a GetAttr or SetAttr is destroyed while a ParamScope may live.
void forget_access(const torch::jit::Node* node);

/// Gives input `index` of `user` the tensor `tensor`. When the attribute behind it has no other reader (in any
/// method), the tensor is stored in that slot and keeps its state-dict name; otherwise the use is replaced by a
/// constant and other readers keep the old tensor.
void set_param(Model& model, torch::jit::Node* user, size_t index, const at::Tensor& tensor);

/// Attributes of all submodules that neither forward nor another method of the root module reads: tensors, and lists
/// and dictionaries that hold tensors. Modules that are kept apart (module_calls.h) read what they hold.
std::vector<AttributeSlot> unread_attributes(const Model& model);

/// The storages of all tensor attributes but those at the paths `except`, those inside of containers not counted.
std::unordered_set<const c10::StorageImpl*> attribute_storages(const Model& model,
                                                               const std::set<std::string>& except = {});

/// Whether every tensor in a value is (a view of) one of these.
bool all_stored_in(const std::unordered_set<const c10::StorageImpl*>& storages, const c10::IValue& value);

/// The constant value behind a graph value: prim::Constant, a constant list, or a non-tensor attribute that no method
/// writes. nullopt when it is computed.
c10::optional<c10::IValue> constant_of(const Model& model, const torch::jit::Value* value);

/// Whether a graph value is this constant number.
bool equals_number(const Model& model, const torch::jit::Value* value, double number);

}  // namespace tsquant
