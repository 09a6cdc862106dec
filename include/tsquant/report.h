#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tsquant {

/// What happened to one operator.
struct NodeRecord {
  std::string name, fx_name, type;
  bool quantized = false;
  std::string code;    ///< "quantized", or the stable word of the refusal ("ignored", "no_quantizable_input", ...)
  std::string reason;  ///< sentence for people
  std::string kernel;  ///< lowered form: operator that runs it, or why it stayed as Q/DQ
  /// Layers with a quantized weight: what bias correction did, "corrected" or "kept: ..." with the reason; empty when
  /// there was none.
  std::string bias = "";
};

/// One quantizer with its parameters.
struct QuantizerRecord {
  int64_t id = 0;
  std::string kind, node;   ///< "activation" or "weight"; where it stands
  int64_t input_port = -1;  ///< -1: after the node
  std::string dtype;        ///< "qint8" or "quint8"
  int64_t quant_min = 0, quant_max = 0;
  std::vector<double> scale;  ///< one, or one per channel
  std::vector<int64_t> zero_point;
  double min = 0, max = 0;                    ///< observed range (smallest and largest over channels)
  int64_t non_finite = 0;                     ///< values that were NaN or infinite during calibration
  std::vector<double> float_zero_point = {};  ///< in the place of zero_point, where these need not be codes
};

/// One weight that was, or could have been, compressed.
struct WeightRecord {
  std::string name;  ///< state-dict name; that of the operator for constants
  std::string node;  ///< the operator that reads it first
  std::vector<int64_t> shape;
  std::string format;       ///< "int4_sym", "int8_asym", "nf4"; "float" when it stayed as it was
  int64_t group_size = -1;  ///< values that share a scale; -1: a channel
  bool ratio_defining = false;
  double score = 0;  ///< of the sensitivity metric; 0 when none was asked for
  int64_t float_bytes = 0, compressed_bytes = 0;
  /// Relative error of the layer's output on the calibration data, of plain rounding and of the result; without data
  /// the relative error of the weight, after only. Negative: not measured.
  double error_before = -1, error_after = -1;
  std::string kernel = "";              ///< lowered form: operator that reads the codes, or why plain ones do
  double damping = 0;                   ///< GPTQ: what was added to the Hessian, relative to its mean diagonal
  std::vector<std::string> algorithms;  ///< what was applied, in order
  std::vector<std::string> remarks;     ///< what was skipped or replaced, and why
};

struct PhaseRecord {
  std::string name;
  double seconds = 0;
  int64_t peak_bytes = 0;  ///< peak resident memory of the process at the end of the phase
};

/// One rewrite of the graph that was run.
struct RewriteRecord {
  std::string name;
  std::string phase;     ///< "float", "quantizer", "algorithm", "insertion", "form", "lowering", "finish"
  bool changed = false;  ///< whether it changed the model
  double seconds = 0;    ///< with the passes over data that it makes, without its verification
};

/// Everything a run did: saved as JSON in the archive (`extra/tsquant_report.json`) and printed as the summary.
struct Report {
  std::string version, form, engine;
  std::vector<NodeRecord> nodes;
  std::vector<QuantizerRecord> quantizers;
  std::vector<WeightRecord> weights;  ///< weight compression, in the order of the graph
  std::vector<PhaseRecord> phases;
  std::vector<RewriteRecord> rewrites;  ///< in the order in which they ran
  std::vector<std::string> warnings;
  std::map<std::string, std::string> options;
  int64_t samples = 0;  ///< calibration; -1 (null in JSON) for observers of torch.ao, which do not count
  int64_t float_bytes = 0, quantized_bytes = 0;  ///< bytes of parameters and constants before and after

  /// Number of operators that are quantized.
  int64_t quantized_count() const;
  /// @param per_channel false: the form stored in archives, without phases and rewrites (the same input must give the
  ///                    same bytes)
  ///                    and without lists of scales and zero points with more than one entry
  std::string to_json(bool per_channel = true) const;
  /// Reads what to_json wrote. @throws Error kModelLoad when the text is no report
  static Report from_json(const std::string& text);
  /// Table by operator type: quantized, left in float and why; then size and time.
  std::string summary() const;
};

}  // namespace tsquant
