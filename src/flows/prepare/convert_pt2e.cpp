#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calibration/activation_taps.h"
#include "flows/annotated_model.h"
#include "flows/check_options.h"
#include "flows/check_supported.h"
#include "flows/computed_weights.h"
#include "flows/prepare/prepare_model.h"
#include "flows/prepare/prepared_record.h"
#include "graph/copy_module.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "io/output_target.h"
#include "lowering/trainable_norms.h"
#include "options/check_fields.h"
#include "options/option_text.h"
#include "options/tables.h"
#include "passes/graph_dumps.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"
#include "tsquant/observer_module.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

namespace {

using torch::jit::Module;

void check_form(const ConvertPt2eOptions& options) {
  const bool is_plain = options.form == OutputForm::kReference || options.form == OutputForm::kDecomposed;
  if (options.use_reference_representation && !is_plain) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("operators that are written out in integers have no {} form",
                            word_of(words<OutputForm>(), options.form)),
                "use_reference_representation", "choose the reference form");
  }
}

/// Nothing is left of what tells the decomposed form, the default, from the reference form in integers written out.
OutputForm form_of(const ConvertPt2eOptions& options) {
  return options.use_reference_representation ? OutputForm::kReference : options.form;
}

QuantizePt2eOptions road_options(const ConvertPt2eOptions& options) {
  QuantizePt2eOptions road;
  road.form = form_of(options);
  road.fold_quantize = options.fold_quantize;
  road.engine = options.engine;
  road.cost = options.cost;
  road.skip_passes = options.skip_passes;
  road.dump_dir = options.dump_dir;
  road.allow_empty = true;  // what may be empty was decided when the model was prepared
  check_unused(road);
  if (!road.dump_dir.empty()) check_output_folder(road.dump_dir, "dumped graphs");
  return road;
}

/// Those of torch.ao keep no count of what they have seen.
bool counts_samples(const Module& observer) {
  return observer_config_of(observer).type == ObserverType::kSampleExtrema;
}

/// The statistics in the observers of a module.
StatTable read_statistics(const PreparedRecord& record, const std::map<std::string, Module>& observers) {
  StatTable stats;
  stats.samples = -1;
  for (const auto& point : record.annotations.points) {
    const auto name = record.observers.find(point.id);
    if (name == record.observers.end() || !needs_statistics(point.spec)) continue;
    const auto module = observers.find(name->second);
    if (module == observers.end()) {
      throw Error(ErrorCode::kInvalidArgument, "an observer of the prepared model is gone", name->second,
                  "give the prepared model as it was returned");
    }
    auto observer = observer_of(module->second, point.spec, point.kind);
    if (!observer) continue;
    if (counts_samples(module->second)) stats.samples = std::max(stats.samples, observer->batches());
    stats.observers[point.id] = std::move(observer);
  }
  return stats;
}

/// A model that nothing ran through would become a float model. Weights need no run.
void require_observed(const PreparedRecord& record, const StatTable& stats) {
  int64_t waits = 0, seen = 0;
  for (const auto& point : record.annotations.points) {
    if (point.kind != PointKind::kActivation || !needs_statistics(point.spec)) continue;
    waits += static_cast<int64_t>(record.observers.count(point.id));
    seen += static_cast<int64_t>(stats.observers.count(point.id));
  }
  if (waits == 0 || seen > 0) return;
  throw Error(ErrorCode::kCalibration, fmt::format("none of the {} observers has seen data", waits), "prepared model",
              "run the prepared module on calibration samples first");
}

/// The graph that the quantizer decided about: loading gave attributes their declared types again, as the optional
/// tensor that a scripted bias is, and wrote constant lists as operators, of which those that hold tensors stay; what
/// was trained has batch norms that are to be folded.
void restore_graph(PreparedModel& prepared, const QuantizePt2eOptions& road, bool is_qat) {
  RewriteRunner runner(*prepared.model, rewrite_options(road, prepared.first));
  runner.run_pass("fold_constant_attributes");
  runner.run_pass("propagate_constants");
  runner.run_pass("unpack_tensor_lists");
  if (is_qat) runner.run_pass("fold_batch_norm");
}

/// The quantizers of these layers belong to the folded ones: beside a norm they would give other numbers.
/// @param trained observers of the weights of layers that were trained with their norms
void require_folded(const Model& model, const PreparedRecord& record, const std::set<std::string>& trained) {
  std::set<std::string> layers;
  for (const auto& point : record.annotations.points) {
    const auto name = record.observers.find(point.id);
    if (point.kind == PointKind::kWeight && name != record.observers.end() && trained.count(name->second) > 0) {
      layers.insert(point.node);
    }
  }
  for (const auto* norm : nodes_of_kind(model.graph()->block(), {"aten::batch_norm"})) {
    const std::string layer = names_of(norm->input(0)->node()).name;
    if (layers.count(layer) == 0) continue;
    throw Error(ErrorCode::kUnsupportedModel, "the batch norm that was trained behind this layer cannot be folded",
                layer, "check that training left its statistics finite, and do not leave out fold_batch_norm");
  }
}

/// The weights' modules see the weights once more as they are now, folded: torch.ao does so at conversion. The modules
/// are replaced by copies, because their buffers belong to the caller.
void observe_trained_weights(const PreparedModel& prepared, const PreparedRecord& record,
                             std::map<std::string, Module>& observers) {
  at::NoGradGuard no_grad;
  for (const auto& point : record.annotations.points) {
    const auto name = record.observers.find(point.id);
    if (point.kind != PointKind::kWeight || name == record.observers.end()) continue;
    const auto found = observers.find(name->second);
    const auto weight = param_of(*prepared.model, tap_of(*prepared.view, point).value);
    if (found == observers.end() || !weight) continue;
    found->second = found->second.deepcopy();
    found->second.forward({weight->tensor.detach()});
  }
}

void leave_in_float(Annotations& annotations, const std::set<std::string>& operators) {
  remove_operators(annotations, operators);
  for (const auto& name : operators) {
    annotations.refusals.push_back({name, "no_qconfig", "the configuration of the conversion leaves it in float"});
  }
}

}  // namespace

QuantizedModel convert_pt2e(const Module& prepared, const ConvertPt2eOptions& options) {
  return convert_observed(prepared, options);
}

QuantizedModel convert_observed(const Module& module, const ConvertPt2eOptions& options,
                                const FloatOperators& float_operators,
                                const QuantizeCustomModules& quantize_custom_modules) {
  check_form(options);
  const SingleThreadGuard deterministic;
  const QuantizePt2eOptions road = road_options(options);
  Module plain = copy_module(module);
  plain.eval();
  PreparedRecord record = take_record(plain);
  auto observers = remove_trainable(plain);
  std::set<std::string> trained;
  for (const auto& block : observers) trained.insert(block.first);
  observers.merge(remove_observers(plain));

  PreparedModel prepared;
  if (quantize_custom_modules) prepared.custom_modules = quantize_custom_modules(plain, record, observers);
  for (const auto& custom : record.custom_modules) {  // which run meanwhile, with the caller's statistics in them
    plain.setattr(custom.attribute, plain.attr(custom.attribute).toModule().deepcopy()._ivalue());
  }
  prepared.model = std::make_unique<Model>(Model::from(plain));
  restore_operator_names(*prepared.model, record.names);
  prepared.model->warnings() = record.warnings;
  prepared.first = record.example;
  if (!road.dump_dir.empty()) start_dumps(road.dump_dir, *prepared.model);
  prepared.io = record.io;
  prepared.integer_representation = options.use_reference_representation;
  restore_graph(prepared, road, record.is_qat);
  require_folded(*prepared.model, record, trained);
  Report& report = prepared.report;
  report.version = TSQUANT_VERSION;
  report.form = word_of(words<OutputForm>(), form_of(options));
  report.engine = checked_engine(road);
  report.options = record.options;
  report.float_bytes = record.float_bytes;
  prepared.view = std::make_unique<GraphView>(*prepared.model, record_shapes(*prepared.model, prepared.first));
  if (float_operators) leave_in_float(record.annotations, float_operators(*prepared.view, record.options));
  prepared.annotations = record.annotations;
  check_supported(*prepared.view, prepared.annotations, form_of(options));
  prepared.computed_weights = find_computed_weights(*prepared.view, report);

  if (record.is_qat) observe_trained_weights(prepared, record, observers);
  StatTable stats = read_statistics(record, observers);
  require_observed(record, stats);
  observe_weights(*prepared.model, *prepared.view, prepared.annotations, {}, stats);
  use_statistics(prepared, stats, form_of(options));
  return convert_prepared(std::move(prepared), road);
}

}  // namespace tsquant
