#include "ir_road.h"

#include <algorithm>
#include <stdexcept>

#include "algorithms/channel_alignment.h"
#include "algorithms/fast_bias_correction.h"
#include "algorithms/smooth_quant.h"
#include "compression/round_to_nearest.h"
#include "evaluation/compare.h"
#include "flows/compression/apply_awq.h"
#include "flows/compression/compress_layer.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/scale_columns.h"
#include "flows/compression/trainable_layer.h"
#include "flows/float_biases.h"
#include "flows/strip_rewrites.h"
#include "flows/strip_trainable.h"
#include "graph/module_calls.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/custom_modules.h"
#include "lowering/engines/cost_model.h"
#include "lowering/lowering.h"
#include "lowering/quantized_io.h"
#include "lowering/trainable_norms.h"
#include "options/words.h"
#include "quantizers/transform_model.h"
#include "support/support.h"

namespace tsquant::testing {

namespace {

/// A quantizer with a rewrite of its own: aten::square(%x) becomes aten::mul(%x, %x).
class SquaresAsProducts : public Quantizer {
 public:
  void transform_for_annotation(Model& model) override {
    for (auto* node : nodes_of_kind(model.graph()->block(), {"aten::square"})) {
      const torch::jit::WithInsertPoint guard(node);
      auto* product = model.graph()->insert(c10::aten::mul, {node->input(0), node->input(0)});
      node->output()->replaceAllUsesWith(product);
      node->destroy();
    }
  }
  Annotations annotate(const GraphView&) const override { return {}; }
};

const std::string kCalled = std::string(kOpaquePrefix) + "0";

/// A custom module computes the relu, which also computes on codes.
void call_instead_of_relu(Model& model) {
  model.module().register_module(kCalled, define("def forward(self, x):\n    return torch.relu(x)\n"));
  for (auto* node : nodes_of_kind(model.graph()->block(), {"aten::relu"})) {
    const torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(insert_module_call(*model.graph(), kCalled, {node->input()}));
    node->destroy();
  }
}

Dataset data_of(const Sample& sample) {
  return Dataset(1, [sample](int64_t) { return sample; });
}

}  // namespace

IrRoad::IrRoad(const IrCase& ir_case, Model& model, const Sample& sample)
    : ir_case_(ir_case), model_(model), sample_(sample), runner_(model) {
  for (const auto* node : all_nodes(model.graph()->block())) {
    const auto names = names_of(node);
    if (!names.name.empty()) report_.nodes.push_back({names.name, names.fx_name, names.type(), true, "", "", ""});
  }
  rewrites_ = {{"take_training_path", [&] { return take_training_path(model_); }},
               {"insert_qdq", [&] { return insert(); }},
               {"insert_observers", [&] { return observe(FakeQuantizeType::kNone); }},
               {"make_trainable", [&] { return train(); }},
               {"quantize_io",
                [&] {
                  return quantize_io(model_, {{0}, /*output=*/true});
                }},
               {"connect_custom_modules",
                [&] {
                  call_instead_of_relu(model_);
                  return connect_custom_modules(model_,
                                                {{kCalled, model_.module().attr(kCalled).toModule(), {0}, true}},
                                                /*keep_quantizers=*/false);
                }},
               {"duplicate_dequantize", [&] { return duplicate_dequantize(model_); }},
               {"to_decomposed_form", [&] { return to_decomposed_form(model_); }},
               {"to_fake_quantize_form", [&] { return to_fake_quantize_form(model_); }},
               {"to_integer_representation", [&] { return to_integer_representation(model_); }},
               {"stamp_value_names", [&] { return stamp_value_names(model_); }},
               {"make_constants_printable", [&] { return make_constants_printable(model_); }},
               {"drop_unread", [&] { return drop_unread(model_); }},
               {"strip_trainable", [&] { return strip_trainable(model_, StripFormat::kDq); }},
               {"weights_to_codes", [&] { return weights_to_codes(model_); }},
               {"weights_in_place", [&] { return weights_in_place(model_); }},
               {"decomposed_to_fake_quantize", [&] { return decomposed_to_fake_quantize(model_); }},
               {"smooth_quant", [&] { return !smooth_quant(model_, data_of(sample_), {}, {}).groups.empty(); }},
               {"align_channels", [&] { return !align_channels(model_, data_of(sample_), {}).pairs.empty(); }},
               {"correct_biases", [&] { return correct_biases(); }},
               {"restore_biases", [&] { return restore_biases(); }},
               {"compress_weights", [&] { return compress(); }},
               {"scale_channels",
                [&] {
                  return with_layers([&](auto& layers, const auto& view, const auto& options) {
                    LayerResults results;
                    RankGroup alone(nullptr);
                    return apply_awq(model_, view, layers, options, results, alone);
                  });
                }},
               {"scale_columns",
                [&] {
                  return with_layers([&](auto& layers, const auto&, const auto& options) {
                    return scale_columns(model_, layers, options);
                  });
                }},
               {"round_layer_by_layer",
                [&] {
                  return with_layers([&](auto& layers, const auto&, const auto& options) {
                    LayerResults results;
                    RankGroup alone(nullptr);
                    Report report;
                    return round_layers(model_, layers, options, results, alone, report);
                  });
                }},
               {"fuse_decompression",
                [&] {
                  std::map<std::string, std::string> kernels;
                  return fuse_decompression(model_, {}, kernels);
                }},
               {"unfuse_decompression", [&] { return unfuse_decompression(model_); }},
               {"decompress_in_place", [&] { return decompress_in_place(model_); }},
               {"leave_in_float", [&] { return leave_in_float(); }},
               {"unpack_float_weights", [&] { return unpack_float_weights(context()); }}};
#define TSQUANT_LOWERING_STEP(name, ...) rewrites_[#name] = [&] { return name(context()); };
#include "passes/registry.inc"
}

bool IrRoad::run(const std::string& name) {
  const RewriteRow* row = find_rewrite(name);
  if (row && row->pass) return runner_.run_pass(name);
  if (name == "lower_to_engine") return lower_to_engine();
  if (name == "transform_for_annotation") {
    SquaresAsProducts quantizer;
    transform_model(runner_, quantizer);
    return runner_.records().back().changed;
  }
  const auto rewrite = rewrites_.find(name);
  if (rewrite == rewrites_.end()) throw std::runtime_error("no rewrite " + name);
  return runner_.run(name, [&](RewriteContext&) { return rewrite->second(); });
}

std::string IrRoad::report_of(const std::string& node) const {
  for (const auto& record : report_.nodes) {
    if (record.name == node) return record.kernel.empty() ? record.reason : record.kernel;
  }
  return "no such operator";
}

bool IrRoad::insert() {
  const GraphView view(model_, record_shapes(model_, sample_));
  QParamTable qparams;
  const Annotations annotations = annotations_of(ir_case_, view, qparams);
  std::vector<Refusal> refusals;
  const bool changed = insert_qdq(model_, view, annotations, qparams, ir_case_.fold, refusals);
  for (const auto& refusal : refusals) {
    for (auto& record : report_.nodes) {
      if (record.name == refusal.node) record.reason = refusal.reason;
    }
  }
  return changed;
}

namespace {

/// torch.ao's observers of minima and maxima, of the points that the case gives.
Annotations observed(Annotations annotations, FakeQuantizeType fake_quantize) {
  for (auto& point : annotations.points) {
    const bool is_weight = point.kind == PointKind::kWeight;
    QuantizationSpec spec;
    spec.formula = QParamsFormula::kTorchAo;
    spec.dtype = is_weight ? c10::kChar : c10::kByte;
    spec.mode = is_weight ? QuantizationScheme::kSymmetric : QuantizationScheme::kAsymmetric;
    spec.per_channel = is_weight;
    spec.observer = is_weight ? ObserverKind::kPerChannelMinMax : ObserverKind::kMinMax;
    spec.fake_quantize = fake_quantize;
    point.spec = spec;
  }
  return annotations;
}

}  // namespace

bool IrRoad::observe(FakeQuantizeType fake_quantize) {
  const GraphView view(model_, record_shapes(model_, sample_));
  QParamTable qparams;
  Annotations annotations = observed(annotations_of(ir_case_, view, qparams), fake_quantize);
  return insert_observers(model_, view, annotations, observers_);
}

/// The points stand in the model whose batch norms are not folded.
bool IrRoad::train() {
  Model folded = model_.clone();
  RewriteRunner(folded).run_pass("fold_batch_norm");
  const NormPairs pairs = folded_norms(model_, folded);
  const GraphView view(model_, record_shapes(model_, sample_));
  QParamTable qparams;
  Annotations annotations = observed(annotations_of(ir_case_, view, qparams), FakeQuantizeType::kFakeQuantize);
  insert_observers(model_, view, annotations, observers_);
  return make_trainable(model_, pairs, annotations, observers_);
}

bool IrRoad::correct_biases() {
  const GraphView view(model_, record_shapes(model_, sample_));
  QParamTable qparams;
  const Annotations annotations = annotations_of(ir_case_, view, qparams);
  FastBiasCorrection correction(model_, view, annotations, {});
  CalibrationOptions calibration;
  calibration.extra_taps = correction.taps();
  calibrate(model_, view, annotations, data_of(sample_), calibration);
  const auto records = correction.apply(model_, qparams);
  return std::any_of(records.begin(), records.end(), [](const auto& record) { return record.corrected; });
}

/// The biases that the operators of the points had are the parameter "original", or none.
bool IrRoad::restore_biases() {
  Biases before;
  std::set<std::string> operators;
  QParamTable qparams;
  for (const auto& point : annotations_of(ir_case_, GraphView(model_), qparams).points) {
    operators.insert(point.node);
    if (model_.module().hasattr("original")) before[point.node] = model_.module().attr("original").toTensor();
  }
  return tsquant::restore_biases(model_, before, operators);
}

bool IrRoad::leave_in_float() {
  FloatIslands islands;
  const ValueNumbers numbers = number_values(*model_.graph());
  for (const auto* node : nodes_of_kind(model_.graph()->block(), {"aten::quantize_per_tensor"})) {
    islands.quantizers[numbers.at(node->output())] = "float is faster";
  }
  return tsquant::leave_in_float(model_, islands);
}

bool IrRoad::with_layers(
    const std::function<bool(std::vector<WeightLayer>&, const GraphView&, const CompressPt2eOptions&)>& work) {
  const size_t space = ir_case_.compress.find(' ');
  OpenVINOQuantizerOptions what;
  what.weights_only.emplace();
  what.weights_only->mode = *find_word(tsquant::words<CompressWeightsMode>(), ir_case_.compress.substr(0, space));
  if (space != std::string::npos) what.weights_only->group_size = std::stoll(ir_case_.compress.substr(space));
  what.weights_only->all_layers = what.weights_only->group_size.has_value();
  const GraphView view(model_, record_shapes(model_, sample_));
  const Annotations annotations = OpenVINOQuantizer(what).annotate(view);
  auto layers = find_weight_layers(model_, view, annotations);
  CompressPt2eOptions options;
  options.dataset = data_of(sample_);
  return work(layers, view, options);
}

bool IrRoad::compress() {
  return with_layers([&](std::vector<WeightLayer>& layers, const GraphView&, const CompressPt2eOptions&) {
    NewParameters parameters(model_);
    for (auto& layer : layers) {
      const auto codes = round_to_nearest(layer.weight, layer.spec);
      if (ir_case_.trainable) {
        insert_trainable_layer(model_, parameters, layer, codes, *ir_case_.trainable);
      } else {
        insert_decompression(model_, parameters, layer.uses, store_weight(codes, layer.weight.sizes(), at::kFloat));
      }
    }
    return !layers.empty();
  });
}

bool IrRoad::lower_to_engine() {
  const std::string before = model_.graph()->toString();
  tsquant::lower_to_engine(runner_, ir_case_.engine, LoweringCost::kOff, sample_, report_);
  return model_.graph()->toString() != before;
}

LoweringContext& IrRoad::context() {
  if (!context_) {
    reference_ = run_reference(model_, sample_);
    kept_ = kept_values();
    context_ = std::make_unique<LoweringContext>(model_, engine_named(ir_case_.engine), reference_, kept_, report_);
  }
  return *context_;
}

KeptValues IrRoad::kept_values() const {
  KeptValues kept;
  const ValueNumbers numbers = number_values(*model_.graph());
  for (const auto* node : all_nodes(model_.graph()->block())) {
    const auto& names = ir_case_.kept;
    if (std::find(names.begin(), names.end(), names_of(node).name) == names.end()) continue;
    kept.emplace(numbers.at(node->output()), "the case keeps it");
    for (const auto& use : node->output()->uses()) {
      if (is_quantizer(use.user)) kept.emplace(numbers.at(use.user->output()), "the case keeps it");
    }
  }
  return kept;
}

}  // namespace tsquant::testing
