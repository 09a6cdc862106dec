#pragma once

#include <torch/script.h>

#include <map>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "lowering/lowering.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant::testing {

/// Parameters per tensor.
QParams per_tensor(double scale, int64_t zero_point, c10::ScalarType dtype = c10::kByte, int64_t quant_min = 0,
                   int64_t quant_max = 255);
/// Symmetric int8 parameters along `axis`, from the data.
QParams per_channel(const at::Tensor& weight, int64_t axis = 0, int64_t quant_max = 127);

/// Points and parameters under construction.
struct Plan {
  Annotations annotations;
  QParamTable qparams;

  /// @param port -1: after the node
  Plan& add(PointKind kind, const std::string& node, int64_t port, const QParams& q);
};

/// Runs insert_qdq on the model and returns the refusals.
std::vector<Refusal> insert(Model& model, const Plan& plan, bool fold = true, const Sample* sample = nullptr);

/// Name of the only node of this function.
std::string only(const Model& model, const std::string& type);

/// The operators of the graph in order, blocks included, without constants, attribute reads and list constructions.
std::vector<std::string> operators(const Model& model);

}  // namespace tsquant::testing
