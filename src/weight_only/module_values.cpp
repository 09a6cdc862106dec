#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "base/nearest.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/model_call.h"
#include "weight_only/module_tree.h"
#include "weight_only/wrap_forward.h"

namespace tsquant {

namespace {

using torch::jit::Function;
using torch::jit::Module;
using torch::jit::Stack;

/// What is wanted of one module.
struct Wanted {
  std::string name;
  bool input = false, output = false;
};

Wanted wanted_of(const std::string& name, const std::vector<std::string>& words) {
  Wanted wanted{name};
  for (const auto& word : words) {
    if (word != "input" && word != "output") {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" cannot be recorded", word), name,
                  "choose input, output or both");
    }
    (word == "input" ? wanted.input : wanted.output) = true;
  }
  return wanted;
}

/// What hooks record while a model runs.
class ValueRecorder {
 public:
  ValueRecorder(ValueFunction input_func, ValueFunction output_func)
      : input_func_(std::move(input_func)), output_func_(std::move(output_func)) {}

  void add(const Wanted& wanted, const c10::optional<c10::IValue>& input, const c10::IValue& output) {
    try {
      record(wanted, input, output);
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }

  /// Throws again what recording threw; the interpreter makes another exception of it.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  std::vector<ModuleValues> take() { return std::move(values_); }

 private:
  void record(const Wanted& wanted, const c10::optional<c10::IValue>& input, const c10::IValue& output) {
    if (wanted.input && !input) {
      throw Error(ErrorCode::kUnsupportedModel, "the module takes no arguments, so it has no input to record",
                  wanted.name, "ask for its output only");
    }
    ModuleValues& values = of(wanted.name);
    if (wanted.input) values.input.push_back(input_func_ ? input_func_(*input) : *input);
    if (!wanted.output) return;
    const bool several = output.isTuple() && !output.toTupleRef().elements().empty();
    const c10::IValue first = several ? output.toTupleRef().elements()[0] : output;
    values.output.push_back(output_func_ ? output_func_(first) : first);
  }

  ModuleValues& of(const std::string& name) {
    for (auto& values : values_) {
      if (values.name == name) return values;
    }
    values_.push_back({name, {}, {}});
    return values_.back();
  }

  ValueFunction input_func_, output_func_;
  std::vector<ModuleValues> values_;
  std::exception_ptr failure_;
};

/// Records as long as the recorder lives.
ForwardCall recording_hook(const std::weak_ptr<ValueRecorder>& weak, const Wanted& wanted) {
  return [weak, wanted](Stack& stack, Function& forward) {
    const c10::optional<c10::IValue> input = stack.size() > 1 ? c10::optional<c10::IValue>(stack[1]) : c10::nullopt;
    forward.run(stack);
    if (const auto recorder = weak.lock()) recorder->add(wanted, input, stack.at(0));
  };
}

void check_names(const std::vector<std::pair<std::string, Module>>& modules, const ModuleHookConfig& config) {
  std::vector<std::string> names;
  for (const auto& [name, module] : modules) names.push_back(name);
  for (const auto& [name, words] : config) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    throw Error(ErrorCode::kInvalidArgument, "the model has no module of this name", name,
                fmt::format("closest: {}", fmt::join(nearest(name, names), ", ")));
  }
}

at::Device device_of(const Module& model) {
  for (const auto& parameter : model.parameters()) return parameter.device();
  return at::kCPU;
}

}  // namespace

std::vector<ModuleValues> get_module_input_output(const Module& model, const ModuleHookConfig& module_hook_config,
                                                  const c10::optional<Dataset>& data, int64_t iters,
                                                  const CalibFunction& calib_func, const ValueFunction& input_func,
                                                  const ValueFunction& output_func, bool strict) {
  if (data.has_value() == static_cast<bool>(calib_func)) {
    throw Error(ErrorCode::kInvalidArgument, "exactly one of data and calib_func has to be given", "data",
                "give what runs the model");
  }
  Module copy = copy_compiled(model);
  const auto modules = all_modules(copy);
  if (strict) check_names(modules, module_hook_config);
  const auto recorder = std::make_shared<ValueRecorder>(input_func, output_func);
  bool hooked = false;
  for (const auto& [name, module] : modules) {
    const auto entry = module_hook_config.find(name);
    if (entry == module_hook_config.end()) continue;
    const Wanted wanted = wanted_of(name, entry->second);
    if (!wanted.input && !wanted.output) continue;
    hooked = true;
    wrap_forward(module, recording_hook(recorder, wanted));
  }
  try {
    if (calib_func) {
      calib_func(copy);
    } else {
      model_forward(copy, *data, iters, device_of(copy));
    }
  } catch (...) {
    recorder->rethrow();
    throw;
  }
  auto values = recorder->take();
  if (hooked && values.empty()) {
    throw Error(ErrorCode::kUnsupportedModel, "none of the modules was called", module_hook_config.begin()->first,
                "give the model as it was saved from Python; code that is one inlined forward calls no modules");
  }
  return values;
}

}  // namespace tsquant
