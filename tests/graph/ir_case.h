#pragma once

#include <torch/script.h>

#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "tsquant/annotation.h"

namespace tsquant::testing {

/// A graph test as a text file. Comment lines are directives, the rest is LibTorch IR:
/// ```
/// # RUN: fold_batch_norm            the rewrite, by its name in the registry
/// # AFTER: insert_qdq ...           rewrites that are run before it
/// # PARAM weight: 4 3 3 3           a float parameter with this shape ("var" in the name: positive values)
/// # ATTR training: false            true, false, none, an integer or a list of integers
/// # ATTR weights: [w b copy:w]      a list of parameters, and of tensors that the module has under no name
/// # INPUT: 1 3 8 8                  shape of a float input, or "bool true|false"; one line per input
/// # POINT: /conv2d/0 0 quint8 0.0625 128    a quantizer: operator, input or "out", type, scale, zero point
/// # POINT: /conv2d/0 1 qint8 axis 0         of a weight, one scale per channel, from its values
/// # POINT: /relu/0 out quint8 0.125 0 levels 0 127
/// # POINT: /relu/0 out quint8 scales 0.5 0.25   of an activation, one scale per channel
/// # POINT: /linear/0 0 quint8 dynamic         of an activation; "levels 0 127": half of the codes
/// # POINT: /embedding/0 0 quint8 float        of a weight by row, with floating-point zero points; "levels 0 15": 4
/// bits # POINT: /linear/0 1 float16                of a weight # COMPRESS: int4_sym 4           mode and group size of
/// weights that are compressed # TRAINABLE: 2                   they stay float, behind quantizers, with adapters of
/// this rank # NO_FOLD                         weights stay float, followed by quantize and dequantize # ENGINE: onednn
/// of lowering; default tsquant # KEEP: /add/0                    lowering must leave this operator alone # WITHIN: 0.5
/// how far the output may move; default: 1e-5 of the largest value # FAILS_BEFORE                    the model runs
/// only after the rewrite; the output is the float model's # UNCHANGED                       the rewrite must report
/// that it changed nothing # REPORT /softmax/0: Q/DQ: ...    NodeRecord::kernel, or the reason of a refused point #
/// CHECK: ... # CHECK-NOT: ...     LibTorch FileCheck on the printed result
/// #= %y = aten::relu(%x)            the whole result, line by line, as ir_text prints it
/// graph(%self, %x : Tensor): ...
/// ```
struct IrCase {
  std::string text, rewrite, ir, engine = "tsquant";
  std::vector<std::string> after, kept;
  std::string compress;  ///< mode and group size
  c10::optional<int64_t> trainable;
  bool unchanged = false, fails_before = false, fold = true;
  double within = -1;  ///< -1: relative to the largest value
  std::vector<std::pair<std::string, std::vector<int64_t>>> params;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<std::string> inputs, points;
  std::vector<std::pair<std::string, std::string>> reports;  ///< by operator
  std::string expected;                                      ///< of ir_text; empty: not compared
};

IrCase read_ir_case(const std::string& path);

/// Writes another expected text into the file.
void rewrite_expected(const std::string& path, const std::string& expected);

/// A module whose `forward` is the case's graph.
torch::jit::Module module_of(const IrCase& ir_case);

/// Reproducible inputs.
std::vector<c10::IValue> inputs_of(const IrCase& ir_case);

/// The case's points, and their parameters in `qparams`.
Annotations annotations_of(const IrCase& ir_case, const GraphView& view, QParamTable& qparams);

}  // namespace tsquant::testing
