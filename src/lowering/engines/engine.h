#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Optional.h>
#include <torch/csrc/jit/ir/ir.h>

#include <limits>
#include <string>
#include <vector>

#include "lowering/engines/code_params.h"

namespace tsquant {

class LoweringContext;
struct FusedOutput;
struct PackedOp;
struct WeightedOp;

/// What is known about one operator of the reference form before it is lowered.
struct OpFacts {
  int64_t rank = -1;  ///< dimensions of its first operand on the probe sample; -1: the sample does not reach it
  std::vector<CodeParams> operands;  ///< of the operands that are codes
  c10::optional<CodeParams> result;  ///< of the quantizer behind it; none: the result is used in float
  // Pooling; left alone by other operators.
  int64_t window = 0;  ///< elements of the window; 0: no pooling
  bool divisor = false, ceil_mode = false, pads_outside_count = false, dilated = false;
};

/// Who says with which scale and zero point an operator's codes are written.
enum class ResultScale {
  kChosen,  ///< the kernel takes them as arguments
  kInput,   ///< the first operand's stay
  kFixed,   ///< the kernel always writes the same (EngineRow::fixed)
};

/// One operator that an engine computes on codes, with its limits. Everything that decides is a column: an operator or
/// a limit is added by a row or a column, and validation, lowering and report follow.
struct EngineRow {
  using Arguments = std::vector<torch::jit::Value*> (*)(LoweringContext& context, torch::jit::Node* node,
                                                        std::vector<torch::jit::Value*> codes,
                                                        const FusedOutput& output);
  using Pack = PackedOp (*)(const WeightedOp& op, const FusedOutput& output);

  const char* op = "";           ///< name in aten, without the underscore of in-place twins
  const char* kernel = "";       ///< operator that is written into the graph
  const char* relu_kernel = "";  ///< twin with a rectifier behind it; empty: none
  ResultScale result = ResultScale::kChosen;
  Arguments arguments = nullptr;  ///< inputs of the kernel, given the operands' codes; null: see the step
  Pack pack = nullptr;            ///< convolutions and linear layers
  const char* float_kernel = "";  ///< twin that writes floats; empty: none
  const char* add_kernel = "";    ///< twin that adds a residual before the activation; empty: none
  bool clamps = false;            ///< any bounds behind it are part of the kernel
  CodeParams fixed = {};          ///< ResultScale::kFixed
  /// Operators that the kernel computes on its float result before it quantizes; its overload `activated` takes them.
  std::vector<std::string> activations = {};
  // Limits.
  int64_t min_rank = 0, max_rank = 8;
  int64_t min_window = 0;
  bool divisor = true, ceil_mode = true, count_without_padding = true, dilation = true;
  /// Of an operand's scale to the result's: low <= ratio < high.
  double min_scale_ratio = 0, max_scale_ratio = std::numeric_limits<double>::infinity();
  bool dense_operand = false;  ///< reads channels-last data in the wrong order
  bool unsigned_only = false;  ///< takes quint8 alone, whatever the engine's activations are
};

/// An engine: the type of its activations and what it computes on them.
struct Engine {
  const char* name = "";
  c10::ScalarType activations = c10::kQUInt8;
  std::vector<EngineRow> rows;
  /// Weights are packed at loading for the engine that LibTorch is set to then.
  bool packs_for_selection = true;
  /// Kernels take scale and zero point of activations from the tensor at each call.
  bool reads_tensor_scales = false;

  const EngineRow* find(const std::string& op) const;
  /// Smallest and largest code of the activations.
  int64_t quant_min() const { return activations == c10::kQUInt8 ? 0 : -128; }
  int64_t quant_max() const { return quant_min() + 255; }
};

/// @throws Error kBackendUnavailable when this build of LibTorch does not have it
const Engine& engine_named(const std::string& name);

/// Which limit of a row the operator breaks, as a sentence; empty when the row can compute it.
std::string broken_limit(const EngineRow& row, const OpFacts& facts);

/// Name of an operator in aten, without the underscore of in-place twins: "relu" for aten::relu_, "conv2d" for
/// aten::_convolution.
std::string op_of(const torch::jit::Node* node);

Engine make_tsquant_engine();
Engine make_onednn_engine();
Engine make_fbgemm_engine();
Engine make_qnnpack_engine();

}  // namespace tsquant
