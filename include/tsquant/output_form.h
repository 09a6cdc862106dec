#pragma once

namespace tsquant {

/// Which operators the written file contains.
enum class OutputForm {
  kDecomposed,    ///< quantized_decomposed::*; needs libtsquant_ops.so at run time
  kReference,     ///< aten::quantize_per_tensor / _per_channel and aten::dequantize; plain LibTorch
  kFakeQuantize,  ///< aten::fake_quantize_per_*_affine; plain LibTorch
  kLowered,       ///< integer kernels of `engine`
};

/// Lowered form: what happens to operators that take longer on codes, with the conversions around them, than in float.
enum class LoweringCost {
  kTable,    ///< they stay in float, judged by a table of rates for all processors: the same file on every machine
  kMeasure,  ///< they stay in float, judged by rates that are measured on this machine
  kOff,      ///< everything that the engine can compute is lowered
};

}  // namespace tsquant
