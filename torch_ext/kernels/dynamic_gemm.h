// Products of rows of integer codes with many rows of inputs that are int8: what a linear layer with dynamically
// quantized activations does with a whole prompt. Sums of a group are exact; groups are added as floats in their order.
// So every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Rows of weights in a panel.
constexpr int64_t kPanelRows = 16;

/// What is multiplied at a time. Each is four bytes of a row.
enum class ProductStep {
  kFourBytes,  ///< codes up to 4 bits, and int8 inputs
  kTwoHalves,  ///< codes up to 8 bits, and inputs, both as int16
};
constexpr int64_t step_elements(ProductStep step) { return step == ProductStep::kFourBytes ? 4 : 2; }

/// Some groups of kPanelRows rows: value = (code - zero) * scale.
struct DynamicPanel {
  ProductStep step = ProductStep::kFourBytes;
  const uint8_t* codes = nullptr;  ///< [groups][steps][kPanelRows][4 bytes]
  int64_t groups = 0, steps = 0;   ///< steps of a group
  const float* scales = nullptr;   ///< [groups][kPanelRows]
  const int32_t* zeros = nullptr;  ///< [groups][kPanelRows]
};

/// The same groups of rows of inputs.
struct DynamicRows {
  const uint8_t* codes = nullptr;  ///< [groups][steps][4 bytes], rows `stride` bytes apart
  int64_t stride = 0, inputs = 0;
  const float* scales = nullptr;  ///< [groups], rows `group_stride` apart
  const int32_t* sums = nullptr;  ///< of the codes, the same
  int64_t group_stride = 0;
};

/// totals[input][kPanelRows] += products
void dynamic_gemm(const DynamicPanel& panel, const DynamicRows& rows, float* totals);

}  // namespace tsquant::kernels
