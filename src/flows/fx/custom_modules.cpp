#include "flows/fx/custom_modules.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "graph/attribute_slots.h"
#include "graph/copy_module.h"
#include "graph/flatten_calls.h"
#include "graph/module_calls.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "quantizers/fx/custom_types.h"
#include "quantizers/fx/object_type.h"
#include "quantizers/fx/qconfig_rules.h"
#include "quantizers/fx/site_table.h"
#include "quantizers/pt2e/module_paths.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

using torch::jit::Module;
using torch::jit::Node;
using Makers = std::map<QuantType, std::map<std::string, ModuleMaker>>;

constexpr const char* kOutputObserver = "activation_post_process";
constexpr const char* kStandalone = "standalone";

const ModuleMaker* find_class(const std::map<std::string, ModuleMaker>& makers, const std::string& module_class) {
  for (const auto& [name, maker] : makers) {
    if (is_class(module_class, name)) return &maker;
  }
  return nullptr;
}

bool knows_class(const Makers& makers, const std::string& module_class) {
  return std::any_of(makers.begin(), makers.end(),
                     [&](const auto& entry) { return find_class(entry.second, module_class) != nullptr; });
}

const ModuleMaker& maker_for(const Makers& makers, QuantType type, const std::string& module_class,
                             const std::string& path, const char* setter) {
  const auto of_type = makers.find(type);
  const ModuleMaker* maker = of_type == makers.end() ? nullptr : find_class(of_type->second, module_class);
  if (maker) return *maker;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("module \"{}\" has a {} qconfig, but its class {} is there for other types only", path,
                          to_string(type), module_class),
              setter, "set a function for this type, or another qconfig for the module");
}

/// @throws Error kInvalidArgument for what cannot be called with this many arguments, or returns something else than a
///         tensor
Module made_module(const ModuleMaker& make, const Module& from, size_t arguments, const std::string& path,
                   const char* setter) {
  Module made = make(from);
  const auto forward = made.find_method("forward");
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("what is made of module \"{}\" {}", path, what), setter,
                "return a module whose forward can be called in place of the other one");
  };
  if (!forward) refuse("has no forward");
  const auto& schema = forward->function().getSchema();
  const auto& parameters = schema.arguments();
  const auto given = arguments + 1;  // with self
  const auto needed = std::count_if(parameters.begin(), parameters.end(),
                                    [](const c10::Argument& parameter) { return !parameter.default_value(); });
  if (given > parameters.size() || given < static_cast<size_t>(needed)) {
    refuse(fmt::format("takes {} arguments, the module takes {}", parameters.size() - 1, arguments));
  }
  if (schema.returns().size() != 1 || !schema.returns()[0].type()->isSubtypeOf(*c10::TensorType::get())) {
    refuse("does not return a tensor");
  }
  return made;
}

/// A module that is replaced.
struct Found {
  Submodule module;
  OptionalQConfig qconfig;
  const StandaloneConfig* standalone = nullptr;  ///< null: a custom module
  QuantType type = QuantType::kStatic;           ///< of a custom module
};

bool is_in_one_of(const std::string& path, const std::vector<std::string>& modules) {
  return std::any_of(modules.begin(), modules.end(),
                     [&](const std::string& around) { return pt2e::is_inside(path, around); });
}

/// The outermost ones.
std::vector<Found> find_replaced(const Model& model, const QConfigMapping& mapping, const PrepareCustomConfig& custom) {
  const QConfigRules rules(mapping);
  const auto modules = submodules_of(model);
  std::map<std::string, const StandaloneConfig*> standalone;
  for (const auto& entry : find_standalone(modules, custom)) standalone[entry.module.path] = entry.config;
  std::vector<std::string> closed;
  std::vector<Found> found;
  for (const auto& module : modules) {  // a module stands before those in it
    const auto config = standalone.find(module.path);
    const bool is_custom = knows_class(custom.float_to_observed_mapping(), module.module_class);
    if (module.path.empty() || is_in_one_of(module.path, closed)) continue;
    if (config == standalone.end() && !is_custom) continue;
    closed.push_back(module.path);
    const auto qconfig = rules.of_module(module);
    if (config != standalone.end()) {
      if (config->second->prepare_custom_config) found.push_back({module, qconfig, config->second});
      continue;
    }
    const auto type = qconfig ? custom_quant_type(*qconfig) : c10::nullopt;
    if (type) found.push_back({module, qconfig, nullptr, *type});
  }
  return found;
}

Module submodule(const Module& root, const std::string& path) {
  Module module = root;
  std::istringstream names(path);
  for (std::string name; std::getline(names, name, '.');) module = module.attr(name).toModule();
  return module;
}

void name_call(Node* call, const std::string& path, size_t number) {
  NodeNames names;
  names.name = path;
  std::replace(names.name.begin(), names.name.end(), '.', '/');
  names.fx_name = path;
  std::replace(names.fx_name.begin(), names.fx_name.end(), '.', '_');
  if (number > 0) names.fx_name += fmt::format("_{}", number);
  names.name += fmt::format("/{}/{}", kOpaqueFunction, number);
  set_names(call, names);
}

/// Calls of a submodule that capture left, in the order of execution.
std::vector<Node*> calls_of(const Model& model, const std::string& path) {
  std::vector<Node*> calls;
  for (Node* call : nodes_of_kind(model.graph()->block(), {"prim::CallMethod"})) {
    if (receiver_path(*model.graph(), call) == path) calls.push_back(call);
  }
  return calls;
}

void require_tensor(const Node* call, const std::string& path) {
  if (call->outputs().size() == 1 && call->output()->type()->isSubtypeOf(*c10::TensorType::get())) return;
  throw Error(ErrorCode::kUnsupportedModel, "a custom module must return one tensor", path,
              "let it return a tensor without a tuple, list or dictionary, or leave its class out of the mapping");
}

/// The same call of the root's submodule `attribute`.
Node* redirect(Model& model, Node* call, const std::string& attribute) {
  torch::jit::WithInsertPoint guard(call);
  const auto inputs = call->inputs().slice(1);
  torch::jit::Value* result = insert_module_call(*model.graph(), attribute, inputs.vec());
  call->output()->replaceAllUsesWith(result);
  remove_module_call(call);
  return result->node();
}

/// What only the float module's code read is read by nobody now.
void empty_unread(const Model& model, const std::string& path) {
  const at::Tensor nothing = at::empty({0});
  for (const auto& slot : unread_attributes(model)) {
    const bool is_of_module = pt2e::is_inside(slot.path, path) && slot.value().isTensor();
    if (is_of_module && !model.unread_at_capture().count(slot.path)) slot.owner->setSlot(slot.index, nothing);
  }
}

/// The observer of what a module returns.
c10::optional<Module> output_observer(const PreparedRecord& record, const std::map<std::string, Module>& observers,
                                      const CustomModule& custom) {
  for (const auto& point : record.annotations.points) {
    const bool is_of_call = std::count(custom.calls.begin(), custom.calls.end(), point.node) > 0;
    const auto name = record.observers.find(point.id);
    if (!is_of_call || point.input_port || name == record.observers.end()) continue;
    const auto observer = observers.find(name->second);
    if (observer != observers.end()) return observer->second;
  }
  return c10::nullopt;
}

/// A copy of the observed module that holds the observer of its result.
Module with_output_observer(const Module& observed, const Module& observer) {
  Module copy = copy_module(observed);
  if (copy.hasattr(kOutputObserver)) remove_attribute(copy, kOutputObserver);
  copy.register_module(kOutputObserver, observer);
  return copy;
}

size_t arguments_of(const Module& root, const std::string& attribute) {
  for (const auto& [call, name] : module_calls(*root.get_method("forward").graph(), kOpaquePrefix)) {
    if (name == attribute) return call->inputs().size() - 1;
  }
  return 0;
}

Module observed_module(const Module& from, const Found& entry, const PrepareCustomConfig& custom, size_t arguments) {
  constexpr const char* kSetter = "set_float_to_observed_mapping";
  const auto& make =
      maker_for(custom.float_to_observed_mapping(), entry.type, entry.module.module_class, entry.module.path, kSetter);
  return made_module(make, from, arguments, entry.module.path, kSetter);
}

/// The arguments of a submodule in one call of the model.
Sample arguments_in(const Model& model, const Node* call, const std::string& path, const Sample& example) {
  std::vector<TapPoint> taps;
  std::vector<at::Tensor> seen(call->inputs().size());
  for (size_t i = 1; i < call->inputs().size(); ++i) {
    const bool is_tensor = call->input(i)->type()->isSubtypeOf(*c10::TensorType::get());
    taps.push_back({is_tensor ? call->input(i) : call->output(), {nullptr, 0}});
  }
  TapRunner(model, taps).run(example, [&](size_t tap, const at::Tensor& tensor) {
    if (!seen[tap + 1].defined()) seen[tap + 1] = tensor.clone();
  });
  Sample sample;
  for (size_t i = 1; i < call->inputs().size(); ++i) {
    const bool is_tensor = call->input(i)->type()->isSubtypeOf(*c10::TensorType::get());
    const auto constant = is_tensor ? c10::nullopt : constant_of(model, call->input(i));
    if ((is_tensor && !seen[i].defined()) || (!is_tensor && !constant)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("argument {} of the standalone module is not known from the example inputs", i - 1), path,
                  "give example inputs that reach the module, and tensors or constants as its arguments");
    }
    sample.args.push_back(is_tensor ? c10::IValue(seen[i]) : *constant);
  }
  return sample;
}

Module prepared_module(const Model& model, const Module& from, const Found& entry, const Sample& example,
                       const PrepareStandalone& prepare) {
  const std::string& path = entry.module.path;
  const Sample arguments = arguments_in(model, calls_of(model, path).front(), path, example);
  QConfigMapping inherited;
  inherited.set_global(entry.qconfig);
  return prepare(Model::from(from), entry.standalone->qconfig_mapping.value_or(inherited), arguments,
                 *entry.standalone);
}

/// What takes the place of an observed module; none: its class is mapped to nothing.
c10::optional<ConvertedModule> quantized_module(const Module& root, const CustomModule& entry,
                                                const c10::optional<Module>& observer,
                                                const ConvertCustomConfig& custom) {
  constexpr const char* kSetter = "set_observed_to_quantized_mapping";
  const auto& makers = custom.observed_to_quantized_mapping();
  const Module observed = root.attr(entry.attribute).toModule();
  const std::string observed_class = pt2e::class_name(observed);
  if (!knows_class(makers, observed_class)) return c10::nullopt;
  const QuantType type = quant_type_from_string(entry.kind);
  const auto& make = maker_for(makers, type, observed_class, entry.path, kSetter);
  const bool has_codes = type == QuantType::kStatic && observer;
  Module quantized = made_module(make, has_codes ? with_output_observer(observed, *observer) : copy_module(observed),
                                 arguments_of(root, entry.attribute), entry.path, kSetter);
  quantized.eval();
  ConvertedModule converted{entry.attribute, quantized, {}, has_codes};
  if (has_codes) converted.inputs = {0};
  return converted;
}

}  // namespace

std::vector<CustomModule> observe_custom_modules(Model& model, const QConfigMapping& mapping,
                                                 const PrepareCustomConfig& custom, const Sample& example,
                                                 const PrepareStandalone& prepare) {
  const auto found = find_replaced(model, mapping, custom);
  if (found.empty()) return {};
  std::set<std::string> paths;
  for (const auto& entry : found) paths.insert(entry.module.path);
  model = model.capture_with_calls(paths);
  std::vector<CustomModule> modules;
  for (const auto& entry : found) {
    const std::string& path = entry.module.path;
    const auto calls = calls_of(model, path);
    if (calls.empty()) continue;
    for (const Node* call : calls) require_tensor(call, path);
    const Module from = copy_module(submodule(model.module(), path));
    CustomModule record;
    record.attribute = kOpaquePrefix + std::to_string(modules.size());
    record.path = path;
    record.kind = entry.standalone ? kStandalone : to_string(entry.type);
    const Module made = entry.standalone ? prepared_module(model, from, entry, example, prepare)
                                         : observed_module(from, entry, custom, calls.front()->inputs().size() - 1);
    model.module().register_module(record.attribute, made);
    for (Node* call : calls) {
      Node* redirected = redirect(model, call, record.attribute);
      name_call(redirected, path, record.calls.size());
      record.calls.push_back(names_of(redirected).name);
    }
    empty_unread(model, path);
    modules.push_back(std::move(record));
  }
  return modules;
}

std::vector<ConvertedModule> quantize_custom_modules(const Module& module, const PreparedRecord& record,
                                                     const std::map<std::string, Module>& observers,
                                                     const ConvertCustomConfig& custom,
                                                     const ConvertStandalone& convert) {
  std::vector<ConvertedModule> converted;
  for (const auto& entry : record.custom_modules) {
    const Module prepared = module.attr(entry.attribute).toModule();
    if (entry.kind == kStandalone) {
      Module copy = copy_module(prepared);
      const QuantizedIo io = take_record(copy).io;
      converted.push_back({entry.attribute, convert(prepared, entry.path), io.inputs, io.output});
    } else if (const auto quantized =
                   quantized_module(module, entry, output_observer(record, observers, entry), custom)) {
      converted.push_back(*quantized);
    }
  }
  return converted;
}

}  // namespace tsquant::fx
