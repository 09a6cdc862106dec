#pragma once

#include <string>

namespace tsquant::fx {

/// What a user names: an operator wherever it stands, a function that code outside of layers calls, or the class of a
/// module.
struct ObjectType {
  enum class Kind { kOperator, kFunction, kClass };
  Kind kind = Kind::kOperator;
  std::string name;  ///< "linear", "linear", "torch.nn.Linear"

  /// One spelling per meaning: "linear", "torch.linear", "torch.nn.Linear".
  std::string text() const { return kind == Kind::kFunction ? "torch." + name : name; }
};

/// @throws Error kInvalidArgument for the name of an operator that LibTorch does not have
ObjectType parse_object_type(const std::string& text, const std::string& place);

/// An operator's name without the underscore of its in-place twin; the kernels of interpolate have its name.
std::string operator_name(const std::string& function);

/// Whether a class is the one that was named: "torch.nn.Linear" or "Linear" for torch.nn.modules.linear.Linear.
bool is_class(const std::string& qualified, const std::string& name);

/// Classes of torch.nn are layers, which torch.ao takes as one operator; Sequential is not.
bool is_layer_class(const std::string& qualified);

}  // namespace tsquant::fx
