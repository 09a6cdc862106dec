#pragma once

#include <ATen/core/ivalue.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tsquant/compress_weights.h"
#include "tsquant/dataset.h"
#include "tsquant/quantize.h"
#include "tsquant/quantize_with_accuracy_control.h"

namespace tsquant {

/// What goes with a configuration but cannot be written into one, such as data (NNCF's NNCFExtraConfigStruct).
class NNCFExtraConfigStruct {
 public:
  virtual ~NNCFExtraConfigStruct() = default;
  /// The same for all objects of a class, which also names it as `kId`; a configuration holds one of each.
  virtual std::string get_id() const = 0;
};

/// The data that ranges are measured on.
class QuantizationRangeInitArgs : public NNCFExtraConfigStruct {
 public:
  static constexpr const char* kId = "quantization_range_init_args";
  explicit QuantizationRangeInitArgs(Dataset data_loader) : data_loader_(std::move(data_loader)) {}
  const Dataset& data_loader() const { return data_loader_; }
  std::string get_id() const override { return kId; }

 private:
  Dataset data_loader_;
};

/// How accuracy is measured, and on which data.
class ModelEvaluationArgs : public NNCFExtraConfigStruct {
 public:
  static constexpr const char* kId = "model_evaluation_args";
  ModelEvaluationArgs(Dataset validation_dataset, ValidationFn eval_fn)
      : validation_dataset_(std::move(validation_dataset)), eval_fn_(std::move(eval_fn)) {}
  const Dataset& validation_dataset() const { return validation_dataset_; }
  const ValidationFn& eval_fn() const { return eval_fn_; }
  std::string get_id() const override { return kId; }

 private:
  Dataset validation_dataset_;
  ValidationFn eval_fn_;
};

/// A configuration in the form of NNCF's configuration files (nncf.NNCFConfig), as a value: it is checked when it is
/// made and at every change, so that one that exists is valid.
///
/// ```json
/// {
///   "target_device": "CPU",
///   "compression": {
///     "algorithm": "quantization",
///     "preset": "mixed",
///     "overflow_fix": "disable",
///     "ignored_scopes": ["conv1/conv2d/0", "{re}fc.*"],
///     "initializer": {"range": {"num_init_samples": 300, "type": "mean_min_max"}},
///     "weights": {"bits": 8, "mode": "symmetric", "per_channel": true}
///   }
/// }
/// ```
/// ```cpp
/// auto config = tsquant::NNCFConfig::from_json("resnet18_int8.json");
/// config.set({"compression", "weights", "bits"}, 4);
/// auto result = tsquant::quantize(model, data, config);
/// config.save("resnet18_int4.json");
/// ```
/// The section of quantization has NNCF's keys (nncf/config/schemata/algo/quantization.py) and those of QuantizeOptions
/// by the names of nncf.quantize's arguments: "mode", "model_type", "subset_size", "fast_bias_correction",
/// "ignored_scope", "advanced_parameters" (all fields of AdvancedQuantizationParameters), "form", "engine", "cost". A
/// range estimator is an object with "min" and "max" or the name of a ready-made set. "compression" is one section or
/// an array of sections of different algorithms. "accuracy_control" at the top has the fields of
/// AccuracyControlOptions, "weight_compression" those of CompressWeightsOptions. Any other key may stand at the top,
/// unless it is a misspelt one of those that are known.
///
/// What quantization after training has no use for is accepted, without effect, and named in `warnings`: keys of
/// training and of the programs that NNCF's files were written for, sections of other algorithms, and what would choose
/// quantizers one by one ("scope_overrides", the initializer "precision", "target_scopes").
class NNCFConfig {
 public:
  /// The way to a value: keys of objects, indices of arrays as text: {"compression", "1", "weights", "bits"}.
  using Path = std::vector<std::string>;

  /// @param nncf_dict a dict with text as keys; its values are None, truth values, numbers, texts, lists, tuples and
  ///                  such dicts
  /// @throws Error kInvalidArgument: another value, which it names by its path; a configuration that is not valid:
  /// names
  ///         the place in it ("compression.weights.bits"), what is wrong there, what is allowed, and for an unknown key
  ///         the nearest one
  static NNCFConfig from_dict(const c10::IValue& nncf_dict);

  /// From JSON. Comments (`//`, `#` and `/* */`) and a comma before a closing bracket are allowed, as in NNCF; they are
  /// not kept.
  /// @param place where the text comes from, for messages
  /// @throws Error kInvalidArgument as from_dict, and for a text that is no JSON
  static NNCFConfig from_text(const std::string& json, const std::string& place = "configuration");

  /// From a file. @throws Error kInvalidArgument as from_text, and for a file that cannot be read
  static NNCFConfig from_json(const std::string& path);

  /// The JSON schema (draft 7) that configurations are checked against. Numbers such as 8.0 count as integers.
  static std::string schema();

  /// As JSON, indented, keys in the order in which they were given.
  std::string to_json() const;

  /// Writes `to_json()` to a file. @throws Error kIo
  void save(const std::string& path) const;

  /// The value there: objects as dicts, arrays as lists; None when there is none.
  c10::IValue get(const Path& path) const;

  /// Gives the value a new content. Objects on the way to it that do not exist are made; an index that is the length of
  /// an array appends to it.
  /// @throws Error kInvalidArgument as from_dict, also when a text or a number stands on the way; the configuration
  ///         stays as it was
  void set(const Path& path, const c10::IValue& value);

  /// Takes the value away. False when there was none.
  /// @throws Error kInvalidArgument when the configuration needs it; it stays as it was
  bool erase(const Path& path);

  /// Adds objects that go with this configuration. Copies of the configuration share them.
  /// @throws Error kInvalidArgument when there is one with this id; none is added then
  void register_extra_structs(const std::vector<std::shared_ptr<const NNCFExtraConfigStruct>>& struct_list);

  template <typename Struct>
  bool has_extra_struct() const {
    return std::dynamic_pointer_cast<const Struct>(find_extra_struct(Struct::kId)) != nullptr;
  }

  /// @throws Error kInvalidArgument when there is none
  template <typename Struct>
  const Struct& get_extra_struct() const {
    const auto found = std::dynamic_pointer_cast<const Struct>(find_extra_struct(Struct::kId));
    if (!found) refuse_missing_struct(Struct::kId);
    return *found;
  }

  std::vector<std::shared_ptr<const NNCFExtraConfigStruct>> get_all_extra_structs() const;

  /// The algorithms of the sections, in order.
  std::vector<std::string> algorithms() const;

  /// A value that may stand at the top for all algorithms and in the section of one, which wins; None when it stands
  /// nowhere.
  /// @throws Error kInvalidArgument when the algorithm has no section or several
  c10::IValue get_redefinable_global_param_value_for_algo(const std::string& param_name,
                                                          const std::string& algo_name) const;

  /// What the section of quantization says. Without a type of range the defaults of nncf.quantize hold.
  /// @param batch_size rows of one calibration sample: "num_init_samples" counts rows, as in NNCF
  /// @throws Error kInvalidArgument: no section of quantization or several, a value that two keys give, percentiles of
  /// a
  ///         type that has none
  QuantizeOptions quantize_options(int64_t batch_size = 1) const;

  /// "accuracy_control"; else the limit of "accuracy_aware_training" (its relative degradation is in percent); else
  /// none.
  c10::optional<AccuracyControlOptions> accuracy_control_options() const;

  /// What "weight_compression" says; scopes at the top are ignored, too.
  /// @param base what the configuration does not speak of stays as it is here
  /// @throws Error kInvalidArgument when there is no such section
  CompressWeightsOptions compress_weights_options(CompressWeightsOptions base = {}) const;

  /// What is in the configuration without effect on quantization after training, each key once.
  std::vector<std::string> warnings() const;

 private:
  NNCFConfig(std::string text, std::string place) : text_(std::move(text)), place_(std::move(place)) {}

  std::shared_ptr<const NNCFExtraConfigStruct> find_extra_struct(const std::string& id) const;
  [[noreturn]] void refuse_missing_struct(const std::string& id) const;

  std::string text_;   ///< JSON without comments
  std::string place_;  ///< for messages
  std::map<std::string, std::shared_ptr<const NNCFExtraConfigStruct>> extra_structs_;
};

/// `quantize` with the options of a configuration; its warnings are in the report.
/// @throws Error as NNCFConfig::quantize_options and quantize
QuantizedModel quantize(Model& model, const Dataset& calibration_dataset, const NNCFConfig& config);

/// The same with the data of the QuantizationRangeInitArgs that are registered with the configuration.
QuantizedModel quantize(Model& model, const NNCFConfig& config);

/// `compress_weights` with the options of a configuration; its warnings are in the report.
/// @param dataset none: that of the QuantizationRangeInitArgs that are registered with the configuration, if they are
/// @throws Error as NNCFConfig::compress_weights_options and compress_weights
CompressedModel compress_weights(Model& model, const NNCFConfig& config,
                                 const c10::optional<Dataset>& dataset = c10::nullopt);

/// `quantize_with_accuracy_control` with the options of a configuration; its warnings are in the report.
/// @throws Error as NNCFConfig::quantize_options and quantize_with_accuracy_control
AccuracyControlResult quantize_with_accuracy_control(Model& model, const Dataset& calibration_dataset,
                                                     const Dataset& validation_dataset,
                                                     const ValidationFn& validation_fn, const NNCFConfig& config);

/// The same with the QuantizationRangeInitArgs and ModelEvaluationArgs that are registered with the configuration.
AccuracyControlResult quantize_with_accuracy_control(Model& model, const NNCFConfig& config);

}  // namespace tsquant
