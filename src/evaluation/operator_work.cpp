#include "evaluation/operator_work.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <unordered_set>

namespace tsquant {

namespace {

using Names = std::unordered_set<std::string>;

double thousands_of_values(const std::vector<c10::IValue>& outputs) {
  double values = 0;
  for (const c10::IValue& output : outputs) {
    if (output.isTensor() && output.toTensor().defined())
      values += static_cast<double>(output.toTensor().numel()) / 1000;
  }
  return values;
}

/// A packed layer among the arguments: products for one value of the result.
bool read_packed(c10::ArrayRef<const c10::IValue> inputs, Products& found) {
  for (const c10::IValue& input : inputs) {
    if (!input.isCustomClass()) continue;
    const auto type = input.type()->expect<c10::ClassType>();
    auto* products = type->findMethod("multiply_adds");
    if (products == nullptr) return false;
    found.per_value = (*products)({input}).toDouble();
    if (auto* bytes = type->findMethod("weight_bytes"))
      found.weight_bytes = static_cast<double>((*bytes)({input}).toInt());
    auto* depthwise = type->findMethod("is_depthwise");
    found.depthwise = depthwise != nullptr && (*depthwise)({input}).toBool();
    return true;
  }
  return false;
}

bool is_matrix(c10::ArrayRef<const c10::IValue> inputs, size_t index) {
  return inputs.size() > index && inputs[index].isTensor() && inputs[index].toTensor().defined() &&
         inputs[index].toTensor().dim() > 0;
}

bool starts_with(const std::string& name, const char* start) { return name.rfind(start, 0) == 0; }

/// Layers and products without packed weights: the sum runs over a weight's inputs, or over the last axis of an
/// argument.
void read_floats(const std::string& name, c10::ArrayRef<const c10::IValue> inputs, Products& found) {
  static const Names convolutions = {"aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::_convolution"};
  static const Names products = {"aten::matmul", "aten::mm", "aten::bmm", "tsquant::matmul", "tsquant::matmul_float"};
  if (!is_matrix(inputs, 0) || !is_matrix(inputs, 1)) return;
  const at::Tensor &first = inputs[0].toTensor(), &second = inputs[1].toTensor();
  if (convolutions.count(name) != 0) {
    const int64_t outputs = second.size(0);
    if (outputs > 0) found.per_value = static_cast<double>(second.numel() / outputs);
    found.depthwise =
        second.dim() > 2 && second.size(1) == 1 && first.dim() == second.dim() && first.size(1) == outputs;
  } else if (name == "tsquant::linear_compressed" || name == "tsquant::linear_compressed_dynamic") {
    constexpr size_t kInFeatures = 6;
    if (inputs.size() > kInFeatures && inputs[kInFeatures].isInt())
      found.per_value = static_cast<double>(inputs[kInFeatures].toInt());
  } else if (name == "aten::linear" || name == "aten::addmm") {
    found.per_value = static_cast<double>(second.size(-1));
  } else if (starts_with(name, "tsquant::attention") && is_matrix(inputs, 2)) {
    const at::Tensor& value = inputs[2].toTensor();
    const int64_t keys = second.size(-1), columns = value.size(-1);
    if (columns > 0)
      found.per_value = static_cast<double>(keys * (first.size(-1) + columns)) / static_cast<double>(columns);
  } else if (products.count(name) != 0) {
    found.per_value = static_cast<double>(first.size(-1));
  }
}

/// Thousands of units, or a negative number.
double units_of(const std::string& name, const OperatorWork& work, const CostRates& rates) {
  if (starts_with(name, "tsquant::linear_compressed")) return -1;
  const bool own = starts_with(name, "tsquant::");
  const double layers =
      layer_cost(rates, work.multiply_adds, false, own) + layer_cost(rates, work.channel_multiply_adds, true, own);
  if (layers > 0) return layers;
  if (name == "tsquant::quantize") return work.values * rates.quantize;
  if (name == "tsquant::dequantize" || name == "aten::dequantize") return work.values * rates.dequantize;
  static const Names on_codes = {"tsquant::add",      "tsquant::mul",      "tsquant::cat",
                                 "tsquant::max_pool", "tsquant::avg_pool", "tsquant::adaptive_avg_pool",
                                 "tsquant::mean",     "tsquant::lookup"};
  if (on_codes.count(name) != 0) return work.values * rates.int8_values;
  if (!starts_with(name, "aten::") || starts_with(name, "aten::quantize") || only_moves(name)) return -1;
  return work.values * rates.float_values;
}

}  // namespace

OperatorWork& OperatorWork::operator+=(const OperatorWork& other) {
  values += other.values;
  multiply_adds += other.multiply_adds;
  channel_multiply_adds += other.channel_multiply_adds;
  return *this;
}

Products products_of_call(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
  Products found;
  if (!read_packed(inputs, found)) read_floats(name, inputs, found);
  return found;
}

OperatorWork work_of_call(const Products& products, const std::vector<c10::IValue>& outputs) {
  OperatorWork work;
  work.values = thousands_of_values(outputs);
  (products.depthwise ? work.channel_multiply_adds : work.multiply_adds) = work.values * products.per_value;
  return work;
}

bool only_moves(const std::string& name) {
  static const Names names = {
      "aten::view",      "aten::reshape",   "aten::permute",   "aten::transpose", "aten::flatten",    "aten::slice",
      "aten::select",    "aten::unsqueeze", "aten::squeeze",   "aten::expand",    "aten::chunk",      "aten::split",
      "aten::unflatten", "aten::size",      "aten::detach",    "aten::t",         "aten::contiguous", "aten::empty",
      "aten::item",      "aten::alias",     "aten::to_mkldnn", "aten::to_dense"};
  return names.count(name) != 0;
}

double predicted_ms(const std::string& name, const OperatorWork& work, const CostRates& rates, double unit) {
  const double units = units_of(name, work, rates);
  return units < 0 ? -1 : units * unit * 1e3;
}

}  // namespace tsquant
