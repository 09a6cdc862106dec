#pragma once

#include <c10/util/Optional.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tsquant/fx/backend_config.h"
#include "tsquant/fx/qconfig_mapping.h"

namespace tsquant::fx {

class PrepareCustomConfig;

/// When the parameters of a custom module are computed.
enum class QuantType { kStatic, kDynamic, kWeightOnly };

/// How a submodule is quantized for itself; what is not given comes from the model around it.
struct StandaloneConfig {
  c10::optional<QConfigMapping> qconfig_mapping;  ///< paths count from the submodule; none: one qconfig, that which the
                                                  ///< mapping around it gives the submodule
  /// Given: prepare_fx prepares the submodule as a model of its own, and convert_fx converts it so; it becomes the
  /// submodule `tsquant_custom_module_<n>` of the root. Paths in it count from the submodule, and so do the indexes of
  /// arguments that it takes as codes, which the qconfig around it makes. None: nothing of the configuration around it
  /// reaches into the submodule.
  std::shared_ptr<const PrepareCustomConfig> prepare_custom_config;
  c10::optional<BackendConfig> backend_config;
};

/// Makes a module from another one, as Python's from_float and from_observed do.
using ModuleMaker = std::function<torch::jit::Module(const torch::jit::Module& module)>;

/// What prepare_fx does besides the rule, by torch.ao's names.
class PrepareCustomConfig {
 public:
  PrepareCustomConfig& set_standalone_module_name(const std::string& module_name, const StandaloneConfig& config = {});
  /// Classes as in QConfigMapping. A name is stronger than a class.
  PrepareCustomConfig& set_standalone_module_class(const std::string& module_class,
                                                   const StandaloneConfig& config = {});
  /// Modules of a class ("Block" or "models.Block") whose qconfig is of this type become what `make_observed` makes of
  /// them; no rewrite and no observer touches what is in them. kStatic: what goes in and what comes out is observed by
  /// the qconfig around the module. kDynamic, kWeightOnly: nothing is; torch.ao does not have these two.
  ///
  /// ```cpp
  /// custom.set_float_to_observed_mapping("Block", [](const torch::jit::Module& block) {
  ///   torch::jit::Module observed("Observed");
  ///   observed.register_parameter("weight", block.attr("weight").toTensor(), false);
  ///   observed.define("def forward(self, x):\n    return torch.linear(x, self.weight)\n");
  ///   return observed;
  /// });
  /// ```
  /// @param make_observed gets a copy of the float module and returns a module whose forward takes the same arguments
  ///        and returns one tensor
  /// @throws Error kInvalidArgument without a function
  PrepareCustomConfig& set_float_to_observed_mapping(const std::string& float_class, const ModuleMaker& make_observed,
                                                     QuantType type = QuantType::kStatic);
  /// Modules that stay in float with everything in them.
  PrepareCustomConfig& set_non_traceable_module_names(std::vector<std::string> names);
  PrepareCustomConfig& set_non_traceable_module_classes(std::vector<std::string> classes);
  /// Inputs of the model, counted from 0, that are quantized already.
  /// @throws Error kInvalidArgument for a negative index, or one that stands twice
  PrepareCustomConfig& set_input_quantized_indexes(std::vector<int64_t> indexes);
  /// @param indexes {0}: the model returns quantized values; {}: float
  /// @throws Error kInvalidArgument for others
  PrepareCustomConfig& set_output_quantized_indexes(std::vector<int64_t> indexes);
  /// Attributes of the model that the result keeps.
  PrepareCustomConfig& set_preserved_attributes(std::vector<std::string> names);

  const std::vector<std::pair<std::string, StandaloneConfig>>& standalone_module_names() const { return names_; }
  const std::vector<std::pair<std::string, StandaloneConfig>>& standalone_module_classes() const { return classes_; }
  const std::map<QuantType, std::map<std::string, ModuleMaker>>& float_to_observed_mapping() const {
    return custom_modules_;
  }
  const std::vector<std::string>& non_traceable_module_names() const { return non_traceable_names_; }
  const std::vector<std::string>& non_traceable_module_classes() const { return non_traceable_classes_; }
  const std::vector<int64_t>& input_quantized_indexes() const { return input_indexes_; }
  const std::vector<int64_t>& output_quantized_indexes() const { return output_indexes_; }
  const std::vector<std::string>& preserved_attributes() const { return preserved_; }

 private:
  std::vector<std::pair<std::string, StandaloneConfig>> names_, classes_;
  std::map<QuantType, std::map<std::string, ModuleMaker>> custom_modules_;
  std::vector<std::string> non_traceable_names_, non_traceable_classes_, preserved_;
  std::vector<int64_t> input_indexes_, output_indexes_;
};

/// What convert_fx does besides the rule.
class ConvertCustomConfig {
 public:
  /// Modules of a class that prepare_fx put in become what `make_quantized` makes of them. kStatic: the observer of the
  /// result is the submodule `activation_post_process` of the observed module, for calculate_qparams; the quantized
  /// module's first argument is a quantized tensor of LibTorch, others are floats, and it returns a quantized tensor.
  /// kDynamic, kWeightOnly: floats. A class of no mapping stays as it was observed.
  /// @param observed_class the last parts of the name of its class, as in set_float_to_observed_mapping
  /// @throws Error kInvalidArgument without a function
  ConvertCustomConfig& set_observed_to_quantized_mapping(const std::string& observed_class,
                                                         const ModuleMaker& make_quantized,
                                                         QuantType type = QuantType::kStatic);
  ConvertCustomConfig& set_preserved_attributes(std::vector<std::string> names);

  const std::map<QuantType, std::map<std::string, ModuleMaker>>& observed_to_quantized_mapping() const {
    return custom_modules_;
  }
  const std::vector<std::string>& preserved_attributes() const { return preserved_; }

 private:
  std::map<QuantType, std::map<std::string, ModuleMaker>> custom_modules_;
  std::vector<std::string> preserved_;
};

/// What fuse_fx does besides the rule.
class FuseCustomConfig {
 public:
  FuseCustomConfig& set_preserved_attributes(std::vector<std::string> names);
  const std::vector<std::string>& preserved_attributes() const { return preserved_; }

 private:
  std::vector<std::string> preserved_;
};

}  // namespace tsquant::fx
