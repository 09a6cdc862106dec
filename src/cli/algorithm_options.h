#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

/// Options of the algorithms around the quantizer: statistics, SmoothQuant, channel alignment, bias correction.
struct AlgorithmArgs {
  c10::optional<bool> smooth_quant;                                     ///< none: for transformers
  c10::optional<double> smooth_quant_matmul, smooth_quant_convolution;  ///< none: the library's defaults
  bool channel_alignment = false;
  std::string bias_correction = "fast";
  std::string bias_reference;  ///< empty: that of the algorithm
  c10::optional<double> bias_threshold, bias_smallest_shift;
  bool bias_for_all_nodes = false;
  std::string range_estimator_activations, range_estimator_weights;  ///< empty: NNCF's defaults
  std::string statistics;                                            ///< "item", "batch" or empty
  bool keep_activations = false;
};
void add_algorithm_options(CLI::App& app, AlgorithmArgs& args);
/// Sets the fields of `options` that the arguments speak about.
/// @throws Error kInvalidArgument: arguments of an algorithm that the others switch off
void apply_algorithm_options(const AlgorithmArgs& args, bool transformer, QuantizePt2eOptions& options);

/// Where statistics are kept; these options go together with a configuration file.
void add_statistics_file_options(CLI::App& app, QuantizePt2eOptions& options);

}  // namespace tsquant::cli
