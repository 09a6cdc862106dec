#pragma once

#include "tsquant/model.h"

namespace tsquant {

/// What `strip` makes of the quantizers of a model (NNCF's StripFormat).
enum class StripFormat {
  /// Every quantizer is one of LibTorch's fake quantizes (aten::fake_quantize_per_tensor_affine or _per_channel_affine)
  /// with the same parameters; folded weights are floats again. Such a file needs no library beside LibTorch.
  kNative,
  /// Weights are integer codes and an operator that turns them into floats: a fake quantize on a weight becomes a qint8
  /// or quint8 tensor and aten::dequantize. Codes of fewer than 8 bits take a byte each. Activations stay as they are.
  kDq,
  /// Weights are floats on which the quantizers have been applied, and have no quantizer any more. Activations stay.
  kInPlace,
};

/// Removes what quantization added and a consumer does not need (nncf.strip). The results stay the same: bit for bit,
/// except that kNative may round values in the middle between two codes to the other one.
///
/// Works on models in decomposed, reference and fake-quantize form and on any TorchScript module that calls LibTorch's
/// fake quantizes, such as one trained with torch.ao's FakeQuantize. Scales and zero points must be constants or
/// tensors that nothing writes. Quantizers that cannot be converted stay; `warnings()` of the result names them, and
/// says when the model has no quantizers at all.
///
/// Compressed weights (compress_weights.h) become plain operators with kNative and kDq (OutputForm::kReference), and
/// float weights with kInPlace.
///
/// ```cpp
/// auto model = tsquant::Model::load("qat.pt");
/// tsquant::strip(model, /*do_copy=*/true, tsquant::StripFormat::kDq).save("compressed.pt");
/// ```
/// @param do_copy false: the given model is edited, and returned
/// @throws Error kUnsupportedModel: integer kernels of the lowered form, whose weights are packed; kNative with fp8
///         quantizers, which no fake quantize expresses; kDq with more than 256 levels; prepared models, which are to
///         be converted first
Model strip(Model& model, bool do_copy = true, StripFormat strip_format = StripFormat::kNative);

}  // namespace tsquant
