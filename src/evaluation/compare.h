#pragma once

#include <string>
#include <vector>

#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/progress.h"
#include "tsquant/report.h"

namespace tsquant {

/// How far one tensor of the quantized model is from the float model's, over all samples.
struct LayerError {
  std::string name, fx_name, type;
  double sqnr_db = 0;  ///< 10 log10(sum f^2 / sum (q - f)^2)
  double cosine = 1;
  double max_error = 0;  ///< largest |q - f|
  double noise = 0;      ///< sum (q - f)^2 / sum f^2
  double added = 0;      ///< noise minus the largest noise among the node's inputs
};

struct Comparison {
  std::vector<LayerError> layers;   ///< largest `added` first
  std::vector<LayerError> outputs;  ///< one per returned tensor, in order
  int64_t samples = 0;
  int64_t unmatched = 0;  ///< float operators without a counterpart (fused into a neighbour, or renamed)
};

/// Runs both models on the first `subset_size` samples and compares the results of corresponding operators.
///
/// Q/DQ forms keep every float operator, so operators are paired in execution order. The lowered form has fused
/// kernels; they are found by the names that stamp_value_names put on their results.
/// @param report of the quantized model, needed for fused kernels; may be null
/// @throws Error kDataset, kCancelled
Comparison compare_models(const Model& float_model, const Model& quantized_model, const Dataset& data,
                          int64_t subset_size, const Report* report = nullptr, const Progress& progress = {});

/// Ready-made `--ignore-name` options for the `count` operators that add the largest error.
std::vector<std::string> ignore_options(const Comparison& comparison, size_t count);

/// Writes the FX alias of every operator into the name of its result (`tsq_conv2d_4`). Unlike scopes, the names of
/// values are saved in archives, so a reloaded model can be compared layer by layer. Returns whether a name changed.
bool stamp_value_names(Model& model);

}  // namespace tsquant
