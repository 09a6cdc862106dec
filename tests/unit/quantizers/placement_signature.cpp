#include "placement_signature.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"
#include "run/tap_runner.h"

namespace tsquant::testing {

namespace {

/// Size and three statistics: equal for equal sets of values. Three digits, since spellings differ in the last bits.
std::string fingerprint(const at::Tensor& tensor) {
  const auto x = tensor.to(at::kDouble).reshape({-1});
  const auto sum = [](const at::Tensor& values) { return values.sum().item<double>(); };
  return fmt::format("{} values, |x| {:.3e}, x^2 {:.3e}, max {:.3e}", x.numel(), sum(x.abs()), sum(x * x),
                     x.max().item<double>());
}

std::string describe(const QuantizationSpec& spec) {
  std::string text = fmt::format("{} bits {}", format_info(spec.format).bits,
                                 spec.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric");
  if (spec.signedness_to_force) text += *spec.signedness_to_force ? " signed" : " unsigned";
  if (spec.narrow_range) text += " narrow";
  if (spec.half_range) text += " half";
  return text;
}

class Signature {
 public:
  Signature(const Model& model, const GraphView& view, const Annotations& annotations)
      : model_(model), view_(view), annotations_(annotations) {}

  std::vector<std::string> lines(const Sample& sample) {
    std::vector<TapPoint> taps;
    std::vector<int64_t> ids;
    for (const auto& point : annotations_.points) {
      if (point.kind == PointKind::kWeight) {
        add_weight(point);
        continue;
      }
      const ViewNode& node = *view_.find(point.node);
      const ViewEdge* edge = point.input_port ? view_.input_edge(node, *point.input_port) : nullptr;
      taps.push_back(edge ? TapPoint{edge->value, edge->use} : TapPoint{node.value, {nullptr, 0}});
      ids.push_back(point.id);
      line_of_[point.id] = "activation " + describe(point.spec);
      if (point.spec.per_channel) line_of_[point.id] += " per channel";
    }
    TapRunner(model_, taps).run(sample, [&](size_t tap, const at::Tensor& tensor) {
      line_of_[ids[tap]] += ": " + fingerprint(tensor);
    });
    return collect();
  }

 private:
  void add_weight(const QuantizationPoint& point) {
    const ViewEdge* edge = view_.input_edge(*view_.find(point.node), point.input_port.value());
    const auto weight = param_of(model_, edge->value);
    std::string text = "weight " + describe(point.spec);
    if (point.spec.per_channel && weight) {
      text += fmt::format(", {} channels", weight->tensor.size(point.spec.ch_axis));
    }
    line_of_[point.id] = text + (weight ? ": " + fingerprint(weight->tensor) : ": computed");
  }

  std::vector<std::string> collect() const {
    std::set<std::string> lines;
    for (const auto& [id, line] : line_of_) lines.insert(line);
    for (const auto& group : annotations_.unified_scale_groups) {
      std::set<std::string> members;
      for (const int64_t id : group) members.insert(line_of_.at(id));
      if (members.size() > 1) lines.insert(fmt::format("one scale for {}", fmt::join(members, " and ")));
    }
    return {lines.begin(), lines.end()};
  }

  const Model& model_;
  const GraphView& view_;
  const Annotations& annotations_;
  std::map<int64_t, std::string> line_of_;
};

}  // namespace

std::vector<std::string> placement_signature(const Model& original, const Sample& sample,
                                             const OpenVINOQuantizerOptions& options) {
  Model model = original.clone();
  OpenVINOQuantizer quantizer(options);
  RewriteRunner runner(model);
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, quantizer);
  const GraphView view(model, record_shapes(model, sample));
  const Annotations annotations = quantizer.annotate(view);
  quantizer.validate(view, annotations);
  return Signature(model, view, annotations).lines(sample);
}

std::string difference(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> only_a, only_b;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(only_a));
  std::set_difference(b.begin(), b.end(), a.begin(), a.end(), std::back_inserter(only_b));
  return fmt::format("only here:\n  {}\nonly there:\n  {}\n", fmt::join(only_a, "\n  "), fmt::join(only_b, "\n  "));
}

}  // namespace tsquant::testing
