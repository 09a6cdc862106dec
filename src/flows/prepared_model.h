#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "flows/float_biases.h"
#include "lowering/custom_modules.h"
#include "lowering/quantized_io.h"
#include "tsquant/graph_view.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Everything that is decided and measured before the graph is edited: from here on no data are needed.
struct PreparedModel {
  std::unique_ptr<Model> model;     ///< normalised float model with corrected biases
  std::unique_ptr<GraphView> view;  ///< of `model`, with the shapes of the first sample
  Annotations annotations;
  QParamTable qparams;
  Report report;                                        ///< describes all points; the phases up to here
  Sample first;                                         ///< the first calibration sample
  Biases original_biases;                               ///< before bias correction
  std::map<std::string, std::string> bias_notes;        ///< what bias correction did, by stable name
  QuantizedIo io;                                       ///< of the result
  std::vector<ConvertedModule> custom_modules;          ///< that take the place of those in `model`
  bool integer_representation = false;                  ///< the reference form is written out in integers
  std::map<std::string, std::string> computed_weights;  ///< layers whose weight is no parameter, and why
};

/// Checks the options, rewrites and annotates the model, calibrates, computes parameters and corrects biases.
/// @throws Error as quantize_pt2e
PreparedModel prepare_model(Model& model, Quantizer& quantizer, const Dataset& calibration_dataset,
                            const QuantizePt2eOptions& options);

/// Inserts the quantizers into the prepared model itself and converts it to the form of the options.
QuantizedModel convert_prepared(PreparedModel prepared, const QuantizePt2eOptions& options);

/// The same on a copy, without the quantizers with these ids. Operators that thereby lose all quantizers get their
/// original bias back and a record with the code "reverted". `prepared` can be converted again.
QuantizedModel convert_without(const PreparedModel& prepared, const QuantizePt2eOptions& options,
                               const std::set<int64_t>& removed_points,
                               const std::set<std::string>& reverted_operators);

}  // namespace tsquant
