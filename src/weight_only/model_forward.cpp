#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error_text.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/model_call.h"

namespace tsquant {

namespace {

using torch::jit::Module;

bool takes(const Module& model, const Sample& sample) {
  torch::jit::Stack stack{model._ivalue()};
  stack.insert(stack.end(), sample.args.begin(), sample.args.end());
  try {
    model.get_method("forward").function().getSchema().checkAndNormalizeInputs(stack, sample.kwargs);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool is_pair(const Sample& item) { return item.args.size() == 2 && item.kwargs.empty(); }

c10::optional<std::unordered_map<std::string, c10::IValue>> keywords_of(const c10::IValue& input) {
  if (!input.isGenericDict()) return c10::nullopt;
  std::unordered_map<std::string, c10::IValue> keywords;
  for (const auto& entry : input.toGenericDict()) {
    if (!entry.key().isString()) return c10::nullopt;
    keywords.emplace(entry.key().toStringRef(), entry.value());
  }
  return keywords;
}

void move_model(Module& model, at::Device device) {
  try {
    model.to(device);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kBackendUnavailable, "the model cannot be moved: " + short_message(error), device.str(),
                "choose a device that this LibTorch has");
  }
}

Sample on_device(const Sample& sample, at::Device device) {
  Sample moved;
  for (const auto& value : sample.args) moved.args.push_back(move_input_to_device(value, device));
  for (const auto& [name, value] : sample.kwargs) moved.kwargs.emplace(name, move_input_to_device(value, device));
  return moved;
}

}  // namespace

Sample call_of_input(const Module& model, const c10::IValue& input) {
  if (auto keywords = keywords_of(input)) return {{}, std::move(*keywords)};
  Sample spread;
  if (input.isTuple()) {
    for (const auto& value : input.toTupleRef().elements()) spread.args.push_back(value);
  } else if (input.isList()) {
    spread.args = input.toListRef().vec();
  } else {
    return {{input}, {}};
  }
  return takes(model, spread) ? spread : Sample{{input}, {}};
}

Sample call_of_item(const Module& model, const Sample& item) {
  if (!is_pair(item)) return item;
  Sample first = call_of_input(model, item.args[0]);
  return takes(model, first) ? first : item;
}

c10::IValue call_model(Module& model, const Sample& sample) {
  const at::NoGradGuard no_grad;
  try {
    return model.get_method("forward")(sample.args, sample.kwargs);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, "the model rejected the input: " + operator_message(error), "forward",
                "check number, shape and dtype of the arguments");
  }
}

c10::IValue move_input_to_device(const c10::IValue& input, at::Device device) {
  if (input.isTensor() && input.toTensor().defined()) return input.toTensor().to(device);
  if (input.isTuple()) {
    std::vector<c10::IValue> elements;
    for (const auto& value : input.toTupleRef().elements()) elements.push_back(move_input_to_device(value, device));
    return c10::ivalue::Tuple::createNamed(std::move(elements), input.toTupleRef().type());
  }
  if (input.isList()) {
    const auto list = input.toList();
    auto moved = c10::impl::GenericList(list.elementType());
    for (const c10::IValue& value : list) moved.push_back(move_input_to_device(value, device));
    return moved;
  }
  if (input.isGenericDict()) {
    const auto dict = input.toGenericDict();
    auto moved = c10::impl::GenericDict(dict.keyType(), dict.valueType());
    for (const auto& entry : dict) moved.insert(entry.key(), move_input_to_device(entry.value(), device));
    return moved;
  }
  return input;
}

c10::IValue forward_wrapper(Module& model, const c10::IValue& input, at::Device device) {
  move_model(model, device);
  return call_model(model, call_of_input(model, move_input_to_device(input, device)));
}

void model_forward(Module& model, const Dataset& data, int64_t iters, at::Device device) {
  if (iters < 1 && iters != -1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("iters is {}", iters), "iters",
                "give the number of items, or -1 for all");
  }
  move_model(model, device);
  int64_t done = 0;
  for (const Sample& item : data.get_inference_data()) {
    call_model(model, on_device(call_of_item(model, item), device));
    if (++done == iters) break;
  }
}

Sample get_example_input(const Dataset& data, int64_t i) {
  if (i < 0) throw Error(ErrorCode::kInvalidArgument, fmt::format("item {} is asked for", i), "i", "count from 0");
  const int64_t count = data.count(i + 1);
  if (count == 0) throw Error(ErrorCode::kDataset, "the data set is empty", "data", "give at least one item");
  const Sample item = data.get(std::min(i, count - 1));
  return is_pair(item) ? to_sample(item.args[0]) : item;
}

}  // namespace tsquant
