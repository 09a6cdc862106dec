#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tsquant/data_files.h"
#include "tsquant/model.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::cli {

/// `--data` and how its tensors become samples; the same for every command that reads data.
struct DataArgs {
  std::string path, normalize;
  DataOptions options;
  std::vector<std::string> scalars;  ///< further arguments of every call: "16000", or "rate=16000" by name
};
void add_data_options(CLI::App& app, DataArgs& args, int64_t batch_size, bool required);
/// @throws Error kDataset, kInvalidArgument
DataFile open_data(const DataArgs& args);

/// `--input-shape`, one per input of the model.
struct ShapeArgs {
  std::vector<std::string> shapes;
  bool given() const { return !shapes.empty(); }
};
void add_shape_options(CLI::App& app, ShapeArgs& args);
/// Random inputs (fixed seed): floats in [0, 1), so that a model may also use them as indices; 0 and 1 for integers.
/// @throws Error kInvalidArgument
Sample make_sample(const ShapeArgs& args);

/// The quantizer, and options of OpenVINOQuantizer.
struct QuantizerArgs {
  std::string quantizer = "openvino";
  std::string qconfig;  ///< fx: a JSON file, or the name of a backend
  OpenVINOQuantizerOptions openvino;
  QuantizePt2eOptions options;                      ///< `skip_passes` belongs to placement; the rest is for quantizing
  std::function<std::vector<std::string>()> given;  ///< names of those of these options that the command line has
};
/// With `--skip-pass`.
void add_quantizer_options(CLI::App& app, QuantizerArgs& args);

/// `--library`: operators that the model needs; loaded as soon as the option is parsed.
void add_library_option(CLI::App& app);
/// `--library`, and `--threads`, which also takes effect when parsed.
void add_process_options(CLI::App& app);

/// `--json FILE`.
void add_json_option(CLI::App& app, std::string& path);

}  // namespace tsquant::cli
