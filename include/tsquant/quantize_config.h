#pragma once

#include <cstdint>
#include <string>

#include "tsquant/quantize.h"

namespace tsquant {

/// Options of `quantize` from a JSON configuration in the shape of NNCF's configuration files:
///
/// ```json
/// {
///   "target_device": "CPU",
///   "compression": {
///     "algorithm": "quantization",
///     "preset": "mixed",
///     "overflow_fix": "disable",
///     "ignored_scopes": ["conv1/conv2d/0", "{re}fc.*"],
///     "initializer": {"range": {"num_init_samples": 300, "type": "mean_min_max"}},
///     "weights": {"bits": 8, "mode": "symmetric", "per_channel": true}
///   }
/// }
/// ```
/// Inside "compression" stand, besides NNCF's keys, those of QuantizeOptions with the names of nncf.quantize's
/// arguments: "mode", "model_type", "subset_size", "fast_bias_correction", "ignored_scope", "advanced_parameters" (all
/// fields of AdvancedQuantizationParameters), "form" and "engine". A range estimator is an object with "min" and "max"
/// or the name of a ready-made set. "compression" may be an array with one object.
///
/// Without a type of range the defaults of nncf.quantize hold. Keys of NNCF's training algorithms are refused, not
/// ignored; so is a value that two keys give.
/// @param batch_size rows of one calibration sample: "num_init_samples" counts rows, as in NNCF
/// @param place      for messages
/// @throws Error kInvalidArgument: names the place in the document and what is allowed there
QuantizeOptions quantize_options_from_json(const std::string& text, int64_t batch_size = 1,
                                           const std::string& place = "configuration");

/// The same from a file. @throws Error kInvalidArgument also when the file cannot be read
QuantizeOptions read_quantize_config(const std::string& path, int64_t batch_size = 1);

}  // namespace tsquant
