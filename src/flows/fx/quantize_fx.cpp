#include "tsquant/fx/quantize_fx.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"
#include "flows/fx/custom_modules.h"
#include "flows/prepare/prepare_model.h"
#include "flows/prepare/prepared_record.h"
#include "passes/rewrite_runner.h"
#include "quantizers/fx/float_operators.h"
#include "tsquant/error.h"
#include "tsquant/fx/fx_quantizer.h"

namespace tsquant::fx {

namespace {

using torch::jit::Module;

constexpr const char* kMappingAttribute = "qconfig_mapping";

void require_attributes(const Module& module, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (module.hasattr(name)) continue;
    std::vector<std::string> known;
    for (const auto& attribute : module.named_attributes(/*recurse=*/false)) known.push_back(attribute.name);
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the model has no attribute \"{}\"", name),
                "set_preserved_attributes", fmt::format("the closest is {}", fmt::join(nearest(name, known, 1), "")));
  }
}

Module prepare(const Model& model, const QConfigMapping& mapping, const Sample& example,
               const PrepareCustomConfig& custom, const BackendConfig& backend, bool is_qat) {
  require_attributes(model.module(), custom.preserved_attributes());
  FxQuantizer quantizer(mapping, custom, backend);
  PreparePt2eOptions options;
  options.allow_empty = true;  // torch.ao returns a float model
  const auto prepare_standalone = [&](const Model& part, const QConfigMapping& part_mapping, const Sample& arguments,
                                      const StandaloneConfig& config) {
    return prepare(part, part_mapping, arguments, *config.prepare_custom_config,
                   config.backend_config.value_or(backend), is_qat);
  };
  Model observed = model.clone();
  PrepareExtras extras;
  extras.io = {custom.input_quantized_indexes(), !custom.output_quantized_indexes().empty()};
  extras.custom_modules = observe_custom_modules(observed, mapping, custom, example, prepare_standalone);
  return prepare_for_observers(observed, quantizer, example, options, is_qat, extras);
}

std::string option(const std::map<std::string, std::string>& options, const std::string& name) {
  const auto found = options.find(name);
  if (found != options.end()) return found->second;
  throw Error(ErrorCode::kInvalidArgument, "the module was not prepared by prepare_fx or prepare_qat_fx",
              "prepared model", "convert it with convert_pt2e");
}

/// The operators of a standalone module, by names as in the model around it.
void add_records(const Report& report, const std::string& path, std::vector<NodeRecord>& records) {
  std::string prefix = path;
  std::replace(prefix.begin(), prefix.end(), '.', '/');
  for (auto record : report.nodes) {
    record.name = prefix + "/" + record.name.substr(record.name.rfind('/', 0) == 0 ? 1 : 0);
    records.push_back(std::move(record));
  }
}

QuantizedModel convert(const Module& prepared, const ConvertFxOptions& options, OutputForm form) {
  if (is_prepared(prepared)) require_attributes(prepared, options.convert_custom_config.preserved_attributes());
  ConvertPt2eOptions road;
  road.form = form;
  road.engine = options.engine;
  road.cost = options.cost;
  std::string mapping;
  const auto read_options = [&](const GraphView& view, const std::map<std::string, std::string>& recorded) {
    mapping = option(recorded, kMappingAttribute);
    const std::string backend = option(recorded, "backend");
    if (options.backend_config && options.backend_config->name() != backend) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the backend is \"{}\", the model was prepared for \"{}\"",
                              options.backend_config->name(), backend),
                  "backend_config", "use one backend for both steps");
    }
    if (!options.qconfig_mapping) return std::set<std::string>();
    check_conversion_mapping(QConfigMapping::from_json(mapping), *options.qconfig_mapping);
    mapping = options.qconfig_mapping->to_json();
    return float_operators(view, *options.qconfig_mapping);
  };
  std::vector<NodeRecord> of_parts;
  const auto convert_standalone = [&](const Module& part, const std::string& path) {
    ConvertFxOptions part_options = options;
    part_options.remove_qconfig = true;
    part_options.qconfig_mapping = c10::nullopt;
    part_options.backend_config = c10::nullopt;
    part_options.convert_custom_config.set_preserved_attributes({});
    const QuantizedModel converted = convert(part, part_options, form);
    add_records(converted.report, path, of_parts);
    return converted.model.finished_module();
  };
  const auto quantize = [&](const Module& module, const PreparedRecord& record, const auto& observers) {
    return quantize_custom_modules(module, record, observers, options.convert_custom_config, convert_standalone);
  };
  QuantizedModel result = convert_observed(prepared, road, read_options, quantize);
  result.report.nodes.insert(result.report.nodes.end(), of_parts.begin(), of_parts.end());
  if (!options.remove_qconfig) attach_preserved_attrs_to_model(result.model.module(), {{kMappingAttribute, mapping}});
  return result;
}

void require_one_tensor(const Model& model) {
  const auto outputs = model.graph()->outputs();
  if (outputs.size() == 1 && outputs[0]->type()->isSubtypeOf(*c10::TensorType::get())) return;
  throw Error(ErrorCode::kUnsupportedModel, "a standalone module must return one tensor", "forward",
              "let it return the tensor itself, without a tuple, list or dictionary");
}

}  // namespace

Model fuse_fx(const Model& model, const FuseCustomConfig& fuse_custom_config) {
  require_attributes(model.module(), fuse_custom_config.preserved_attributes());
  Model fused = model.clone();
  RewriteRunner(fused).run_passes(RewritePhase::kFloat);
  fused.set_original(model);
  return fused;
}

Module prepare_fx(const Model& model, const QConfigMapping& qconfig_mapping, const Sample& example_inputs,
                  const PrepareCustomConfig& prepare_custom_config, const BackendConfig& backend_config) {
  return prepare(model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config, /*is_qat=*/false);
}

Module prepare_qat_fx(const Model& model, const QConfigMapping& qconfig_mapping, const Sample& example_inputs,
                      const PrepareCustomConfig& prepare_custom_config, const BackendConfig& backend_config) {
  return prepare(model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config, /*is_qat=*/true);
}

QuantizedModel convert_fx(const Module& prepared, const ConvertFxOptions& options) {
  return convert(prepared, options, OutputForm::kLowered);
}

QuantizedModel convert_to_reference_fx(const Module& prepared, const ConvertFxOptions& options) {
  return convert(prepared, options, OutputForm::kReference);
}

QuantizedModel convert_to_reference_decomposed_fx(const Module& prepared, const ConvertFxOptions& options) {
  return convert(prepared, options, OutputForm::kDecomposed);
}

Module prepare_standalone_module_fx(const Model& model, const QConfigMapping& qconfig_mapping,
                                    const Sample& example_inputs, const PrepareCustomConfig& prepare_custom_config,
                                    const BackendConfig& backend_config) {
  require_one_tensor(model);
  return prepare_fx(model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config);
}

QuantizedModel convert_standalone_module_fx(const Module& prepared, const ConvertFxOptions& options) {
  return convert_to_reference_fx(prepared, options);
}

void attach_preserved_attrs_to_model(Module& module, const std::map<std::string, c10::IValue>& attributes) {
  for (const auto& [name, value] : attributes) {
    if (!module.hasattr(name)) {
      module.register_attribute(name, value.type(), value);
      continue;
    }
    const auto type = module.type()->getAttribute(name);
    if (!value.type()->isSubtypeOf(*type)) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("the attribute \"{}\" is a {}, the value a {}", name, type->repr_str(), value.type()->repr_str()),
          "attach_preserved_attrs_to_model", "give a value of its type, or another name");
    }
    module.setattr(name, value);
  }
}

}  // namespace tsquant::fx
