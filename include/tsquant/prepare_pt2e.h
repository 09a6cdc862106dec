#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

#include "tsquant/engine.h"
#include "tsquant/model.h"
#include "tsquant/output_form.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/quantizer.h"
#include "tsquant/sample.h"

namespace tsquant {

struct PreparePt2eOptions {
  std::vector<std::string> skip_passes = {};  ///< as in QuantizePt2eOptions
  std::string dump_dir = "";                  ///< as in QuantizePt2eOptions
  bool allow_empty = false;                   ///< accept a model in which nothing could be quantized
};

/// The first of two steps for those who run the model themselves (torch.ao.quantization.quantize_pt2e.prepare_pt2e):
/// rewrites the model as quantize_pt2e does, asks the quantizer, and puts an observer module (observer_module.h) at
/// every activation that it chose. The result is a plain TorchScript module: it runs, saves and loads in LibTorch and
/// Python without a library of ours, and what runs through it is observed.
///
/// ```cpp
/// auto prepared = tsquant::prepare_pt2e(model, quantizer, {{example}});
/// for (const auto& batch : data) prepared.forward({batch});
/// tsquant::convert_pt2e(prepared).save("model_int8.pt");
/// ```
/// Weights are observed when the model is converted, as they are then. The given model is not changed; the tensors of
/// its weights are shared.
/// @param example_inputs one call of the model: decides shapes, and checks the result after conversion
/// @throws Error kDataset when they do not fit; kUnsupportedModel (nothing to quantize and !allow_empty);
///         kInvalidArgument (rewrites that cannot be left out), and what the quantizer throws
torch::jit::Module prepare_pt2e(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                const PreparePt2eOptions& options = {});

/// The first step of quantization-aware training (torchao's prepare_qat_pt2e): as prepare_pt2e, with modules that
/// fake-quantize activations and weights, so that training adapts the weights to their codes. The result is a copy with
/// tensors of its own, in training mode; its `parameters()` go to any torch::optim:
///
/// ```cpp
/// auto prepared = tsquant::prepare_qat_pt2e(model, quantizer, {{example}});
/// std::vector<at::Tensor> parameters;
/// for (const auto& p : prepared.parameters()) parameters.push_back(p);
/// torch::optim::SGD optimizer(parameters, 0.01);
/// ...                                   // forward, loss, backward, step
/// tsquant::convert_pt2e(prepared).save("model_int8.pt");
/// ```
/// Dropout and batch norm of models that were captured in evaluation mode follow `train()` and `eval()` again.
/// Convolutions and linear layers with a batch norm compute with the quantized weight of the folded layer
/// (trainable_norms.h). Specs without a fake quantize, such as OpenVINOQuantizer's, get torch.ao's FakeQuantize with a
/// moving average for activations, and the range of the weights at each step; their scales are torch.ao's.
/// @throws Error as prepare_pt2e
torch::jit::Module prepare_qat_pt2e(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                    const PreparePt2eOptions& options = {});

/// In the last epochs of training: batch norms of a prepared module use their running statistics and no longer change
/// them, in training mode too; and back. @throws Error kInvalidArgument when the module was not prepared for training
void freeze_bn_stats(torch::jit::Module& prepared);
void update_bn_stats(torch::jit::Module& prepared);

/// Whether a module comes from a first step and is waiting for `convert_pt2e` or `fx::convert_fx`.
bool is_prepared(const torch::jit::Module& module);

struct ConvertPt2eOptions {
  /// True, with the forms kDecomposed and kReference, which are the same then: operators that compute with integers,
  /// written out in plain operators of LibTorch (torchao's reference_representation_rewrite), so that the file says
  /// what a backend must compute, to the rounding.
  /// Rewritten are linear and convolutions with codes at input, weight and output (a relu may follow), linear with a
  /// dynamically quantized input, add (a relu may follow), max_pool2d and adaptive_avg_pool2d; quantizers around other
  /// operators become round, clamp and casts. Codes of a rewritten operator are those of the reference form or next to
  /// them as long as scale(input) * scale(weight) <= scale(output); products and biases are rounded to the nearest,
  /// where torchao truncates. Not a fast form: LibTorch's integer convolutions are loops.
  bool use_reference_representation = false;
  bool fold_quantize = true;                  ///< as in QuantizePt2eOptions
  OutputForm form = OutputForm::kDecomposed;  ///< as in QuantizePt2eOptions
  std::string engine = "";                    ///< as in QuantizePt2eOptions
  LoweringCost cost = LoweringCost::kTable;   ///< as in QuantizePt2eOptions
  std::vector<std::string> skip_passes = {};  ///< as in QuantizePt2eOptions
  std::string dump_dir = "";                  ///< as in QuantizePt2eOptions
};

/// The second step (torch.ao.quantization.quantize_pt2e.convert_pt2e): what the observers have seen becomes scales and
/// zero points, and the observers become quantizers. `prepared` may have been saved and loaded in between, also by
/// Python; it is not changed. Operators whose observers saw nothing stay in float, with the reason in the report.
/// @throws Error kInvalidArgument when the module does not come from prepare_pt2e, prepare_qat_pt2e or the functions of
///         tsquant::fx, or was edited since, and for use_reference_representation with the form kLowered or
///         kFakeQuantize; kCalibration for statistics that give no parameters; kBackendUnavailable
QuantizedModel convert_pt2e(const torch::jit::Module& prepared, const ConvertPt2eOptions& options = {});

}  // namespace tsquant
