#include "annotated_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"

namespace tsquant::testing {

AnnotatedModel::AnnotatedModel(const torch::jit::Module& module, Quantizer& quantizer,
                               const std::vector<at::Tensor>& inputs)
    : AnnotatedModel(Model::from(module), quantizer, inputs) {}

AnnotatedModel::AnnotatedModel(Model model, Quantizer& quantizer, const std::vector<at::Tensor>& inputs)
    : model_(std::move(model)) {
  Sample sample;
  for (const auto& input : inputs) sample.args.emplace_back(input);
  RewriteRunner runner(model_);
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, quantizer);
  view_ = inputs.empty() ? std::make_unique<GraphView>(model_)
                         : std::make_unique<GraphView>(model_, record_shapes(model_, sample));
  annotations_ = quantizer.annotate(*view_);
  quantizer.validate(*view_, annotations_);
}

std::vector<std::string> AnnotatedModel::points() const {
  std::map<int64_t, char> group_of;
  char letter = 'a';
  for (const auto& group : annotations_.unified_scale_groups) {
    for (const int64_t id : group) group_of[id] = letter;
    ++letter;
  }
  std::vector<std::string> lines;
  for (const auto& point : annotations_.points) {
    const QuantizationSpec& spec = point.spec;
    std::string line = view_->find(point.node)->fx_name;
    if (point.input_port) line += fmt::format(":{}", *point.input_port);
    line += fmt::format(" {}[{},{}]", spec.dtype == c10::kChar ? "int8" : "uint8", spec.quant_min.value_or(-999),
                        spec.quant_max.value_or(-999));
    if (point.kind == PointKind::kWeight) line += " w";
    if (spec.per_channel) line += fmt::format(" ch{}", spec.ch_axis);
    const auto group = group_of.find(point.id);
    if (group != group_of.end()) line += fmt::format(" ={}", group->second);
    lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

Error thrown_by(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCode::kInternal, "");
}

}  // namespace tsquant::testing
