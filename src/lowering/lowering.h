#pragma once

#include <string>
#include <vector>

#include "numerics/qparams.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/model.h"
#include "tsquant/output_form.h"
#include "tsquant/report.h"
#include "tsquant/sample.h"

namespace tsquant {

class RewriteRunner;

/// Inserts quantize/dequantize pairs in reference form (aten::quantize_per_tensor / aten::quantize_per_channel and
/// aten::dequantize) at every point that has parameters. With `fold`, a weight becomes its quantized tensor, stored
/// under its state-dict name, followed by aten::dequantize. What is for storage alone (is_for_storage) always does:
/// float16 before aten::dequantize, and bytes before the plain operators of float_zero_points.h. Edits the model's
/// graph; `view` is invalid afterwards. Points that cannot be inserted safely (the tensor is written in place) are
/// appended to `refusals`. As all rewrites here it returns whether something changed.
bool insert_qdq(Model& model, const GraphView& view, const Annotations& annotations, const QParamTable& qparams,
                bool fold, std::vector<Refusal>& refusals);

/// Gives every consumer of a dequantize its own copy, so that patterns are trees.
bool duplicate_dequantize(Model& model);

/// Reference form -> quantized_decomposed::* operators on integer tensors.
bool to_decomposed_form(Model& model);
/// Reference form -> aten::fake_quantize_per_tensor_affine / per_channel_affine.
bool to_fake_quantize_form(Model& model);

/// Reference form -> operators that compute with integers, and quantizers, written out in plain operators of LibTorch;
/// no quantized tensor is left. What is rewritten, and how it rounds: to_integer_representation.cpp.
bool to_integer_representation(Model& model);

/// Reference form -> integer kernels of an engine ("tsquant", "onednn", "qnnpack", "fbgemm"). Operators that the engine
/// refuses, fails at, or computes differently on `probe` stay as Q/DQ around the float operator. Fills
/// NodeRecord::kernel of every quantized operator: the kernel's name, or why it stayed.
/// @param runner of the model; the steps are its rewrites of the phase "lowering"
/// @param cost what happens to operators that are slower on codes than in float
/// @throws Error kBackendUnavailable, kDataset when the model itself rejects the probe
void lower_to_engine(RewriteRunner& runner, const std::string& engine, LoweringCost cost, const Sample& probe,
                     Report& report);

/// Makes the archive small: tensors that nothing reads any more (folded batch norms, replaced weights) become empty,
/// and submodule methods that were inlined into forward are removed. What forward never read stays, but for other names
/// of tied weights that went. Must be the last step.
bool drop_unread(Model& model);

/// Changes float constants that LibTorch 1.13 writes so that it reads integers (whole numbers from 1e10 on) by the
/// smallest possible step; those from 2^53 to 1e17, where no step helps, become 1e17. Scales get there from data of
/// absurd size only, and without this such a file does not load.
bool make_constants_printable(Model& model);

/// Bytes of all tensors that the module's archive will hold (parameters, buffers, graph constants, packed weights).
int64_t stored_bytes(const Model& model);

}  // namespace tsquant
