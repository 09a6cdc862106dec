// Layers as the results that a later run continues with.
#include <ATen/ATen.h>

#include "flows/compression/layer_results.h"
#include "lowering/compressed/stored_weight.h"

namespace tsquant {

namespace {

using nlohmann::json;

int64_t add_tensor(LayerResult& result, const at::Tensor& tensor) {
  result.tensors.push_back(tensor);
  return static_cast<int64_t>(result.tensors.size()) - 1;
}

at::Tensor tensor_in(const LayerResult& result, const json& parts, const char* name) {
  return result.tensors.at(parts.at(name).get<size_t>());
}

/// Numbers, which may be infinite, and the codebook: JSON has neither infinity nor float32.
at::Tensor doubles(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

}  // namespace

void add_weight(LayerResult& result, const std::string& name, const CompressedWeight& weight) {
  const QParams& q = weight.qparams;
  json parts{{"format", static_cast<int>(q.format)},
             {"formula", static_cast<int>(q.formula)},
             {"quant_min", q.quant_min},
             {"quant_max", q.quant_max},
             {"dtype", static_cast<int>(q.dtype)},
             {"per_channel", q.per_channel},
             {"axis", q.axis},
             {"group_size", q.group_size},
             {"group_axis", q.group_axis},
             {"row", weight.codes.size(-1)}};
  parts["codes"] = add_tensor(result, stored_codes(weight.codes, q.format));
  parts["scale"] = add_tensor(result, q.scale);
  parts["zero_point"] = add_tensor(result, q.zero_point);
  parts["tensor_scale"] = add_tensor(result, q.tensor_scale);
  parts["codebook"] = add_tensor(result, at::tensor(q.codebook, at::kFloat));
  result.values[name] = parts;
}

CompressedWeight weight_in(const LayerResult& result, const std::string& name) {
  const json& parts = result.values.at(name);
  CompressedWeight weight;
  QParams& q = weight.qparams;
  q.format = static_cast<Format>(parts.at("format").get<int>());
  q.formula = static_cast<QParamsFormula>(parts.at("formula").get<int>());
  q.quant_min = parts.at("quant_min").get<int64_t>();
  q.quant_max = parts.at("quant_max").get<int64_t>();
  q.dtype = static_cast<c10::ScalarType>(parts.at("dtype").get<int>());
  q.per_channel = parts.at("per_channel").get<bool>();
  q.axis = parts.at("axis").get<int64_t>();
  q.group_size = parts.at("group_size").get<int64_t>();
  q.group_axis = parts.at("group_axis").get<int64_t>();
  q.scale = tensor_in(result, parts, "scale");
  q.zero_point = tensor_in(result, parts, "zero_point");
  q.tensor_scale = tensor_in(result, parts, "tensor_scale");
  const at::Tensor levels = tensor_in(result, parts, "codebook");
  q.codebook.assign(levels.data_ptr<float>(), levels.data_ptr<float>() + levels.numel());
  const at::Tensor codes = tensor_in(result, parts, "codes");
  weight.codes = restored_codes(codes, q.format, parts.at("row").get<int64_t>(),
                                format_info(q.format).bits == 8 ? codes.scalar_type() : q.dtype);
  return weight;
}

void add_correction(LayerResult& result, const LowRankCorrection& correction) {
  json parts;
  parts["a"] = add_tensor(result, correction.a.values);
  parts["b"] = add_tensor(result, correction.b.values);
  parts["errors"] = add_tensor(result, doubles({correction.error_before, correction.error_after}));
  result.values["correction"] = parts;
  if (correction.a.codes) add_weight(result, "a_codes", *correction.a.codes);
  if (correction.b.codes) add_weight(result, "b_codes", *correction.b.codes);
}

LowRankCorrection correction_in(const LayerResult& result) {
  const json& parts = result.values.at("correction");
  LowRankCorrection correction;
  correction.a.values = tensor_in(result, parts, "a");
  correction.b.values = tensor_in(result, parts, "b");
  const at::Tensor errors = tensor_in(result, parts, "errors");
  correction.error_before = errors.data_ptr<double>()[0];
  correction.error_after = errors.data_ptr<double>()[1];
  if (result.values.contains("a_codes")) correction.a.codes = weight_in(result, "a_codes");
  if (result.values.contains("b_codes")) correction.b.codes = weight_in(result, "b_codes");
  return correction;
}

LayerResult result_of(const WeightLayer& layer) {
  LayerResult result;
  const WeightRecord& record = layer.record;
  result.values["numbers"] = add_tensor(result, doubles({record.error_before, record.error_after, record.damping}));
  result.values["algorithms"] = record.algorithms;
  result.values["remarks"] = record.remarks;
  result.values["bias"] = add_tensor(result, layer.bias);
  if (layer.compressed) add_weight(result, "weight", *layer.compressed);
  if (layer.correction) add_correction(result, *layer.correction);
  return result;
}

void restore(const LayerResult& result, WeightLayer& layer) {
  WeightRecord& record = layer.record;
  const at::Tensor numbers = tensor_in(result, result.values, "numbers");
  const double* values = numbers.data_ptr<double>();
  record.error_before = values[0];
  record.error_after = values[1];
  record.damping = values[2];
  record.algorithms = result.values.at("algorithms").get<std::vector<std::string>>();
  record.remarks = result.values.at("remarks").get<std::vector<std::string>>();
  layer.bias = tensor_in(result, result.values, "bias");
  if (result.values.contains("weight")) layer.compressed = weight_in(result, "weight");
  if (result.values.contains("correction")) layer.correction = correction_in(result);
}

}  // namespace tsquant
