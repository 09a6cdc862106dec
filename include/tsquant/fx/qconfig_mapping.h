#pragma once

#include <c10/util/Optional.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tsquant/fx/qconfig.h"

namespace tsquant::fx {

/// No value: the operator stays in float.
using OptionalQConfig = c10::optional<QConfig>;

/// Which qconfig an operator gets, by torch.ao's rules. From weak to strong: global, object type, regular expression,
/// module name, position in a module.
///
/// ```cpp
/// auto mapping = fx::get_default_qconfig_mapping("x86");
/// mapping.set_object_type("aten::add", c10::nullopt).set_module_name("layer4", fx::get_default_qconfig("onednn"));
/// ```
/// Object types are
/// - `aten::linear`, `torch.ops.aten.linear.default` or `linear`: every operator of this name; `relu` and `relu_` are
///   one;
/// - `torch.nn.functional.linear`, `F.linear`, `torch.add`, `operator.add`: those that code outside of torch.nn's
///   layers calls. TorchScript has one operator for the spellings of a function, so these are equal;
/// - `Linear`, `torch.nn.Linear`, `torch.nn.modules.linear.Linear`: the operators of a layer; the class of a module of
///   your own: the operators that its own code calls, not those of its children.
/// Of the types that fit an operator the one set last counts, but the class of the module around a function is stronger
/// than the function.
///
/// Types that a model does not have are no mistake: the default mappings name many. Module names, regular expressions
/// and positions are about one model: prepare_fx throws kInvalidArgument for those that fit nothing in it.
class QConfigMapping {
 public:
  /// A position: the `index`-th operator of this type, counted from 0, that the code of a module calls.
  struct Position {
    std::string module_name;  ///< "" is the model itself; of a layer: the module around it
    std::string object_type;
    int64_t index = 0;
    bool operator==(const Position& other) const {
      return module_name == other.module_name && object_type == other.object_type && index == other.index;
    }
  };
  template <typename Key>
  using Entries = std::vector<std::pair<Key, OptionalQConfig>>;

  QConfigMapping& set_global(const OptionalQConfig& qconfig);
  /// @throws Error kInvalidArgument for the name of an operator that LibTorch does not have
  QConfigMapping& set_object_type(const std::string& object_type, const OptionalQConfig& qconfig);
  /// @param regex matches from the beginning of a module's path, not up to its end; the first one that was set counts
  /// @throws Error kInvalidArgument for what is no regular expression
  QConfigMapping& set_module_name_regex(const std::string& regex, const OptionalQConfig& qconfig);
  /// A submodule ("layer1.0") and what is below it and has no entry of its own.
  QConfigMapping& set_module_name(const std::string& module_name, const OptionalQConfig& qconfig);
  /// @throws Error kInvalidArgument as set_object_type, and for a negative index
  QConfigMapping& set_module_name_object_type_order(const std::string& module_name, const std::string& object_type,
                                                    int64_t index, const OptionalQConfig& qconfig);

  const OptionalQConfig& global_qconfig() const { return global_; }
  /// Spelled in one way per meaning ("linear", "torch.linear", "torch.nn.Linear"), the one set last at the end.
  const Entries<std::string>& object_type_qconfigs() const { return object_types_; }
  const Entries<std::string>& module_name_regex_qconfigs() const { return regexes_; }
  const Entries<std::string>& module_name_qconfigs() const { return module_names_; }
  const Entries<Position>& module_name_object_type_order_qconfigs() const { return positions_; }

  bool operator==(const QConfigMapping& other) const;
  bool operator!=(const QConfigMapping& other) const { return !(*this == other); }

  /// As JSON text with the keys of torch.ao's to_dict: "" (global), "object_type", "module_name_regex", "module_name",
  /// "module_name_object_type_order". A qconfig is an object as in qconfig.h, or null.
  std::string to_json() const;
  /// @throws Error kInvalidArgument naming the key that is wrong, and the right one that comes closest
  static QConfigMapping from_json(const std::string& text);

 private:
  OptionalQConfig global_;
  Entries<std::string> object_types_, regexes_, module_names_;
  Entries<Position> positions_;
};

/// get_default_qconfig for everything, with what torch.ao sets besides: `reshape` keeps the parameters of its input,
/// transposed convolutions have per-tensor weights (x86 and fbgemm), layer_norm has float weights, and sigmoid,
/// hardsigmoid, tanh and nn.Softmax have their fixed parameters.
/// @throws Error kInvalidArgument as get_default_qconfig
QConfigMapping get_default_qconfig_mapping(const std::string& backend = "x86", int64_t version = 0);
/// The same with get_default_qat_qconfig.
QConfigMapping get_default_qat_qconfig_mapping(const std::string& backend = "x86", int64_t version = 1);

}  // namespace tsquant::fx
