#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tsquant/error.h"
#include "tsquant/graph_view.h"
#include "tsquant/quantizer.h"

namespace tsquant::testing {

/// Runs the passes, the quantizer's transformation and its annotation, and checks the result as quantize_pt2e does.
class AnnotatedModel {
 public:
  AnnotatedModel(const torch::jit::Module& module, Quantizer& quantizer, const std::vector<at::Tensor>& inputs);
  AnnotatedModel(Model model, Quantizer& quantizer, const std::vector<at::Tensor>& inputs);

  /// One line per point, sorted: "conv2d:0 uint8[0,255]" before a tensor argument, "conv2d uint8[0,255]" after the
  /// node; "w" marks weights, "ch1" the axis of per-channel points and "=a" the members of the first unified group.
  std::vector<std::string> points() const;
  const Annotations& annotations() const { return annotations_; }
  const GraphView& view() const { return *view_; }

 private:
  Model model_;
  std::unique_ptr<GraphView> view_;
  Annotations annotations_;
};

using Lines = std::vector<std::string>;

/// The error that `work` throws; fails the test when it throws none.
Error thrown_by(const std::function<void()>& work);

}  // namespace tsquant::testing
