#pragma once

#include <torch/script.h>

#include <map>
#include <string>
#include <vector>

#include "passes/rewrite_runner.h"
#include "tsquant/model.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/report.h"

namespace tsquant::testing {

/// A model in reference form (written as TorchScript with quantize and dequantize calls) and its lowered twin.
struct Lowered {
  Model reference, lowered;
  Report report;

  at::Tensor expected(const at::Tensor& x) const { return reference.run({{x}, {}}).toTensor(); }
  at::Tensor actual(const at::Tensor& x) const { return lowered.run({{x}, {}}).toTensor(); }
  /// Number of operators by qualified name, without constants and attribute reads.
  std::map<std::string, int> kinds() const;
  /// The report's kernel of the only operator with this function name.
  std::string kernel_of(const std::string& type) const;
};

/// Parameters: float tensors, or quantized weights that the source reads with torch.dequantize. `probe` is the sample
/// that lowering tries the model on.
Lowered lower(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
              const std::string& engine, const at::Tensor& probe, LoweringCost cost = LoweringCost::kOff);

Lowered lower(const Model& reference, const std::string& engine, const at::Tensor& probe,
              LoweringCost cost = LoweringCost::kOff, const RewriteOptions& rewrites = {});

/// A weight as fold_quantize leaves it: qint8, one scale per output channel.
at::Tensor quantized_weight(at::IntArrayRef sizes, int64_t axis = 0);

/// Expects every value within `quanta` * scale, and all but one in a thousand, or two, equal.
void expect_close(const at::Tensor& actual, const at::Tensor& expected, double scale, double quanta = 1);

}  // namespace tsquant::testing
