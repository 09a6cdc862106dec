#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

namespace tsquant {

/// The attributes of a module before it exists.
class Attributes {
 public:
  void add(const std::string& name, int64_t value) { add(name, c10::IntType::get(), value, Kind::kValue); }
  void add(const std::string& name, double value) { add(name, c10::FloatType::get(), value, Kind::kValue); }
  void add(const std::string& name, bool value) { add(name, c10::BoolType::get(), value, Kind::kValue); }
  void add(const std::string& name, const torch::jit::Module& child) {
    add(name, child.type(), child._ivalue(), Kind::kValue);
  }
  void add_tensor_list(const std::string& name);
  void add_buffer(const std::string& name, at::Tensor value) {
    add(name, c10::TensorType::get(), std::move(value), Kind::kBuffer);
  }
  void add_parameter(const std::string& name, at::Tensor value) {
    add(name, c10::TensorType::get(), std::move(value), Kind::kParameter);
  }

  /// A module of the class `name` of `unit` with these attributes. The class is made from `source` when there is none
  /// yet; one of this name with other attributes is left alone and the new one gets a mangled name.
  torch::jit::Module instance(const std::string& name, const std::string& source,
                              const std::shared_ptr<torch::jit::CompilationUnit>& unit) const;

 private:
  enum class Kind { kValue, kBuffer, kParameter };
  struct Attribute {
    std::string name;
    c10::TypePtr type;
    c10::IValue value;
    Kind kind;
  };

  void add(const std::string& name, c10::TypePtr type, c10::IValue value, Kind kind) {
    attributes_.push_back({name, std::move(type), std::move(value), kind});
  }
  bool are_those_of(const c10::ClassType& type) const;

  std::vector<Attribute> attributes_;
};

}  // namespace tsquant
