#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "numerics/error_metrics.h"
#include "tsquant/error.h"
#include "tsquant/weight_only.h"
#include "weight_only/check_arguments.h"
#include "weight_only/module_tree.h"

namespace tsquant {

c10::optional<double> search_clip(const at::Tensor& weight, int64_t bits, int64_t group_size, const std::string& scheme,
                                  const std::string& dtype, bool enable_full_range) {
  constexpr int kGrid = 200, kTried = 40;
  check_matrix(weight, "weight");
  double smallest = std::numeric_limits<double>::infinity();
  c10::optional<double> best;
  for (int i = 0; i < kTried; ++i) {
    const double ratio = 1 - static_cast<double>(i) / kGrid;
    const auto rounded = weight.detach().clone();
    quant_tensor(rounded, bits, group_size, scheme, ratio, dtype, /*return_int=*/false, enable_full_range);
    ErrorMetrics error;
    error.add(weight, rounded);
    if (error.mean_squared_error() >= smallest || std::isnan(error.mean_squared_error())) continue;
    smallest = error.mean_squared_error();
    best = ratio;
  }
  return best;
}

c10::optional<double> search_clip(const torch::jit::Module& module, int64_t bits, int64_t group_size,
                                  const std::string& scheme, const std::string& dtype, bool enable_full_range) {
  if (!module.hasattr("weight") || !module.attr("weight").isTensor()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a module {} has no tensor \"weight\"", class_name(module)),
                "module", "give a layer, or its weight");
  }
  return search_clip(module.attr("weight").toTensor(), bits, group_size, scheme, dtype, enable_full_range);
}

}  // namespace tsquant
