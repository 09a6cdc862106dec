#include "tsquant/prepare_pt2e.h"

#include <fmt/format.h>

#include <map>
#include <string>

#include "flows/annotated_model.h"
#include "flows/check_supported.h"
#include "flows/prepare/prepare_model.h"
#include "flows/prepare/prepared_record.h"
#include "flows/record_options.h"
#include "graph/module_calls.h"
#include "io/output_target.h"
#include "lowering/lowering.h"
#include "lowering/trainable_norms.h"
#include "passes/graph_dumps.h"
#include "passes/take_training_path.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"
#include "tsquant/observer_module.h"

namespace tsquant {

namespace {

QuantizePt2eOptions road_options(const PreparePt2eOptions& options) {
  QuantizePt2eOptions road;
  road.skip_passes = options.skip_passes;
  road.dump_dir = options.dump_dir;
  road.allow_empty = options.allow_empty;
  return road;
}

}  // namespace

namespace {

/// What stands in a model that is trained: a spec that does not say gets torch.ao's FakeQuantize, and one of another
/// formula the codes and the formula that the module trains with.
QuantizationSpec trained_spec(QuantizationSpec spec, PointKind kind) {
  if (spec.fake_quantize != FakeQuantizeType::kNone || !needs_statistics(spec)) return spec;
  spec.fake_quantize = FakeQuantizeType::kFakeQuantize;
  spec.observer = spec.per_channel ? ObserverKind::kMovingAveragePerChannelMinMax : ObserverKind::kMovingAverageMinMax;
  if (kind == PointKind::kWeight) spec.averaging_constant = 1;
  return spec.formula == QParamsFormula::kTorchAo ? spec : spec_of(observer_config_of(spec, kind));
}

void train_points(Annotations& annotations) {
  for (auto& point : annotations.points) {
    const bool is_half = point.spec.dtype == c10::kHalf;
    if (!format_info(point.spec.format).integer || is_half) {
      throw Error(
          ErrorCode::kUnsupportedModel,
          fmt::format("codes of the format {} cannot be trained", is_half ? "float16" : to_string(point.spec.format)),
          point.node, "choose an integer format");
    }
    point.spec = trained_spec(point.spec, point.kind);
  }
}

void require_gradients(torch::jit::Module& module) {
  for (at::Tensor parameter : module.parameters()) {
    if (parameter.is_floating_point()) parameter.set_requires_grad(true);
  }
}

/// Rewrites, annotates and inserts; `prepared.model` is what the caller gets.
class Preparation {
 public:
  Preparation(const Model& model, Quantizer& quantizer, const Sample& example, const PreparePt2eOptions& options,
              bool is_qat, const PrepareExtras& extras)
      : quantizer_(quantizer), road_(road_options(options)) {
    prepared_.model = std::make_unique<Model>(model.clone());
    prepared_.first = example;
    record_run(prepared_.report, quantizer, road_.form, nullptr);
    record_.is_qat = is_qat;
    record_.float_bytes = stored_bytes(*prepared_.model);
    record_.example = example;
    record_.io = extras.io;
    record_.custom_modules = extras.custom_modules;
    for (const auto& custom : record_.custom_modules) {
      unused_.emplace(custom.attribute, model.module().attr(custom.attribute).toModule().deepcopy());
    }
    if (!road_.dump_dir.empty()) start_dumps(road_.dump_dir, *prepared_.model);
  }

  torch::jit::Module run() {
    const Model observed = record_.is_qat ? insert_for_training() : insert_for_calibration();
    torch::jit::Module module = observed.finished_module();
    for (const auto& [attribute, custom] : unused_) replace_opaque(module, attribute, custom);
    record_.options = prepared_.report.options;
    record_.warnings = observed.warnings();
    attach_record(module, record_);
    if (!record_.is_qat) return module;
    const at::NoGradGuard no_grad;  // copies of parameters that have gradients are parameters, not results
    module = module.deepcopy();     // training changes parameters and statistics in place
    require_gradients(module);
    module.train();
    return module;
  }

 private:
  Model insert_for_calibration() {
    Model& model = *prepared_.model;
    RewriteRunner runner(model, rewrite_options(road_, prepared_.first));
    normalise(runner, quantizer_);
    annotate_model(prepared_, quantizer_, road_);
    record_.annotations = prepared_.annotations;
    record_.names = operator_names(model);
    runner.run("insert_observers", [&](RewriteContext& ctx) {
      return insert_observers(ctx.model, *prepared_.view, record_.annotations, record_.observers);
    });
    return model;
  }

  /// Its questions are asked of attributes, and of lists to which parameters are appended.
  static void decide_for_training(RewriteRunner& runner) {
    for (const char* pass : {"fold_constant_attributes", "propagate_constants", "remove_mutation"}) {
      runner.run_pass(pass);
    }
    runner.run("take_training_path", take_training_path);
  }

  /// The quantizer decides about the model with folded batch norms; the one that is trained keeps them.
  Model insert_for_training() {
    QuantizePt2eOptions unfolded_road = road_;
    unfolded_road.skip_passes.push_back("fold_batch_norm");
    Model trained = prepared_.model->clone();
    RewriteRunner runner(trained, rewrite_options(unfolded_road, prepared_.first));
    if (asks_for_gradients(trained)) decide_for_training(runner);
    normalise(runner, quantizer_);
    *prepared_.model = trained.clone();
    RewriteRunner folding(*prepared_.model, rewrite_options(road_, prepared_.first));
    folding.run_pass("fold_batch_norm");
    annotate_model(prepared_, quantizer_, road_);
    train_points(prepared_.annotations);

    record_.names = operator_names(trained);
    record_.annotations = prepared_.annotations;
    const NormPairs pairs = folded_norms(trained, *prepared_.model);
    Annotations annotations = unfolded(prepared_.annotations, pairs);
    const GraphView view(trained, record_shapes(trained, prepared_.first));
    runner.run("insert_observers",
               [&](RewriteContext& ctx) { return insert_observers(ctx.model, view, annotations, record_.observers); });
    runner.run("make_trainable",
               [&](RewriteContext& ctx) { return make_trainable(ctx.model, pairs, annotations, record_.observers); });
    return trained;
  }

  Quantizer& quantizer_;
  QuantizePt2eOptions road_;
  PreparedModel prepared_;
  PreparedRecord record_;
  /// Copies of the custom modules: the example must not count in observers of their own.
  std::map<std::string, torch::jit::Module> unused_;
};

void set_norm_update(torch::jit::Module& module, bool on) {
  if (!module.hasattr(kNormUpdate)) {
    throw Error(ErrorCode::kInvalidArgument, "the module has no batch norms that are trained", "prepared model",
                "give the module that prepare_qat_pt2e or prepare_qat_fx returned");
  }
  module.setattr(kNormUpdate, on);
}

}  // namespace

torch::jit::Module prepare_for_observers(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                         const PreparePt2eOptions& options, bool is_qat, const PrepareExtras& extras) {
  if (!options.dump_dir.empty()) check_output_folder(options.dump_dir, "dumped graphs");
  require_float(model);
  const SingleThreadGuard deterministic;
  return Preparation(model, quantizer, example_inputs, options, is_qat, extras).run();
}

torch::jit::Module prepare_pt2e(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                const PreparePt2eOptions& options) {
  return prepare_for_observers(model, quantizer, example_inputs, options, /*is_qat=*/false);
}

torch::jit::Module prepare_qat_pt2e(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                    const PreparePt2eOptions& options) {
  return prepare_for_observers(model, quantizer, example_inputs, options, /*is_qat=*/true);
}

void freeze_bn_stats(torch::jit::Module& prepared) { set_norm_update(prepared, false); }
void update_bn_stats(torch::jit::Module& prepared) { set_norm_update(prepared, true); }

}  // namespace tsquant
