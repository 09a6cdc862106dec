#include "tsquant/compress_pt2e.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "calibration/fingerprint.h"
#include "flows/check_saved.h"
#include "flows/check_supported.h"
#include "flows/compression/adapters.h"
#include "flows/compression/allocate_precision.h"
#include "flows/compression/apply_awq.h"
#include "flows/compression/check_compression.h"
#include "flows/compression/compress_layer.h"
#include "flows/compression/finite_weights.h"
#include "flows/compression/fit_codebooks.h"
#include "flows/compression/float_copies.h"
#include "flows/compression/group_size_fallback.h"
#include "flows/compression/layer_inputs.h"
#include "flows/compression/layer_results.h"
#include "flows/compression/mixed_precision.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/scale_columns.h"
#include "flows/compression/trainable_layer.h"
#include "flows/compression/weight_layers.h"
#include "flows/finish_rewrites.h"
#include "flows/phase_clock.h"
#include "flows/record_options.h"
#include "graph/write_model.h"
#include "io/file_mapping.h"
#include "lowering/compressed/decompression_chain.h"
#include "lowering/compressed/fuse_decompression.h"
#include "lowering/lowering.h"
#include "lowering/trainable/trainable_weight.h"
#include "options/option_text.h"
#include "options/tables.h"
#include "passes/graph_dumps.h"
#include "passes/rewrite_runner.h"
#include "quantizers/transform_model.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Everything on the way from the float model to the compressed one.
struct Compression {
  const CompressPt2eOptions& options;
  Model model;
  c10::optional<Sample> first;
  Report report;
  std::unique_ptr<GraphView> view;
  Annotations annotations;
  std::vector<WeightLayer> layers;
  LayerResults results;
  RankGroup& ranks;
};

/// The ladder of quality best.
bool refines_layers(const CompressPt2eOptions& options) {
  return options.quality == CompressionQuality::kBest && options.dataset;
}

std::string text_digest(const std::string& text) {
  Digest digest;
  digest.add(text);
  return digest.text();
}

/// Ranks may have the same folder.
std::string dump_dir_of(const Compression& c) { return c.ranks.is_first() ? c.options.dump_dir : ""; }

/// Everything that must be equal on all ranks, by name.
std::map<std::string, std::string> keys_of(const Compression& c) {
  static const std::set<std::string> kFolders{"dump_dir", "resume_dir", "advanced_parameters.statistics_path"};
  std::map<std::string, std::string> keys = c.report.options;
  for_each_leaf(fields<CompressPt2eOptions>(), [&](const auto& row) {
    if (kFolders.count(row.name) == 0) keys.emplace(row.name, row.get(c.options).dump());
  });
  keys["statistics_path"] = c.options.advanced_parameters.statistics_path.empty() ? "none" : "given";
  keys["model"] = fingerprint(c.model);
  keys["weights"] = weights_fingerprint(c.annotations);
  if (!c.options.dataset) return keys;
  const int64_t samples = c.options.dataset->count(c.options.subset_size);
  keys["samples"] = std::to_string(samples);
  // Else each rank reads its own samples alone.
  if (!c.options.gptq && !refines_layers(c.options)) return keys;
  std::string data;
  for (int64_t i = 0; i < samples; ++i) data += fingerprint(c.options.dataset->get(i));
  keys["data"] = text_digest(data);
  return keys;
}

RewriteOptions rewrite_options(const Compression& c) {
  RewriteOptions rewrites;
  rewrites.skip = c.options.skip_passes;
  // A weight is compressed as it is: codes of folded ones would be those of another model.
  rewrites.skip.emplace_back("fold_batch_norm");
  rewrites.sample = c.first ? &*c.first : nullptr;
  rewrites.dump_dir = dump_dir_of(c);
  return rewrites;
}

void annotate(Compression& c, const Quantizer& quantizer) {
  const ShapeTable shapes = c.first ? record_shapes(c.model, *c.first) : ShapeTable();
  c.view = std::make_unique<GraphView>(c.model, shapes);
  c.annotations = quantizer.annotate(*c.view);
  quantizer.validate(*c.view, c.annotations);
  check_annotations(c.annotations, c.options);
  if (c.annotations.points.empty()) {
    throw Error(
        ErrorCode::kUnsupportedModel, "no weight of this model can be compressed", "forward",
        "see `tsquant inspect`; weights of matrix multiplications, embeddings, convolutions and recurrent layers "
        "can");
  }
  c.layers = find_weight_layers(c.model, *c.view, c.annotations);
}

void describe_precision(WeightLayer& layer) {
  layer.record.format = layer.in_float ? "float" : precision_name(layer.spec);
  layer.record.group_size = !layer.in_float && layer.spec.group_size > 0 ? layer.spec.group_size : -1;
}

void describe(WeightLayer& layer, const StoredWeight& stored) {
  WeightRecord& record = layer.record;
  describe_precision(layer);
  record.compressed_bytes = stored.bytes();
  if (record.error_after < 0) record.error_after = error_of_stored(layer.weight, stored);
}

/// The report of a dry run.
void describe_plan(Compression& c) {
  Report& report = c.report;
  report.quantized_bytes = report.float_bytes;
  FloatBytes floats;
  for (WeightLayer& layer : c.layers) {
    describe_precision(layer);
    layer.record.compressed_bytes =
        layer.in_float ? layer.record.float_bytes : compressed_bytes(layer.weight, layer.spec);
    if (!layer.in_float) report.quantized_bytes += layer.record.compressed_bytes - floats.take(layer.weight);
    report.weights.push_back(layer.record);
  }
}

void require_compressed(const std::vector<WeightLayer>& layers) {
  if (std::any_of(layers.begin(), layers.end(), [](const WeightLayer& layer) { return !layer.in_float; })) return;
  throw Error(ErrorCode::kUnsupportedModel, "no weight is left to compress: all of them stay in float", "forward",
              "choose another backup_mode, ratio or group_size");
}

bool has_target(const CompressPt2eOptions& options) { return options.target_size || options.target_bits_per_weight; }

/// NNCF collects the statistics of all algorithms when they are kept in files.
bool needs_layer_inputs(const Compression& c) {
  const auto& o = c.options;
  if (!o.dataset) return false;
  const bool metric = o.ratio != 1 && metric_of(o) != SensitivityMetric::kWeightQuantizationError;
  const bool awq = o.awq && o.advanced_parameters.awq_params.prefer_data_aware_scaling;
  const bool lora = o.lora_correction && o.quality != CompressionQuality::kBest;
  const bool codebook = std::any_of(c.layers.begin(), c.layers.end(), wants_codebook);
  return has_target(o) || codebook || metric || awq || o.scale_estimation || lora ||
         !o.advanced_parameters.statistics_path.empty();
}

/// Codes of a layer that has none, its error and adapters.
void choose_codes(Compression& c, WeightLayer& layer) {
  layer.compressed = compress_layer(layer, c.options, c.results);
  if (is_trainable(c.options)) return;
  layer.stored = store_weight(*layer.compressed, layer.weight.sizes(), layer.weight.scalar_type());
  describe(layer, *layer.stored);
  if (c.options.lora_correction && c.options.quality != CompressionQuality::kBest) {
    fit_adapters(layer, *layer.compressed, c.options.advanced_parameters.lora_correction_params, c.results);
  }
}

/// @return the last operator that makes the weight of its codes
const torch::jit::Node* insert_codes(Model& model, NewParameters& parameters, WeightLayer& layer,
                                     const CompressPt2eOptions& options) {
  // Of another rank's layer the codes are here, not yet what is stored.
  if (!layer.stored) layer.stored = store_weight(*layer.compressed, layer.weight.sizes(), layer.weight.scalar_type());
  const auto* last = insert_decompression(model, parameters, layer.uses, *layer.stored);
  describe(layer, *layer.stored);
  insert_adapters(model, parameters, layer, options.advanced_parameters.lora_correction_params);
  return last;
}

/// One weight after the other, the largest first: its float tensor is given up before the next one is read. Ranks
/// share the weights.
/// @param written filled: the last operators of the weights
bool insert_weights(Compression& c, Model& model, std::set<const torch::jit::Node*>& written) {
  std::vector<size_t> order(c.layers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return c.layers[a].record.float_bytes > c.layers[b].record.float_bytes; });
  std::vector<WeightLayer*> ordered;
  for (const size_t index : order) ordered.push_back(&c.layers[index]);
  const bool trainable = is_trainable(c.options);
  const auto adapters = adapter_ranks(c.layers, c.options);
  NewParameters parameters(model);
  size_t done = 0;
  bool changed = false;
  const auto choose = [&](WeightLayer& layer) {
    if (!layer.in_float && !layer.stored) choose_codes(c, layer);
  };
  const auto insert = [&](WeightLayer& layer) {
    if (layer.in_float) {
      describe_precision(layer);
      layer.record.compressed_bytes = layer.record.float_bytes;
    } else {
      changed = true;
      if (trainable) {
        describe_precision(layer);
        insert_trainable_layer(model, parameters, layer, *layer.compressed, adapters[order[done]]);
      } else {
        written.insert(insert_codes(model, parameters, layer, c.options));
      }
    }
    layer.weight = at::Tensor();
    layer.compressed = c10::nullopt;
    layer.correction = c10::nullopt;
    layer.stored = c10::nullopt;
    report_progress(c.options.progress, "compress", ++done, order.size());
  };
  share_layers(c.ranks, ordered, choose, insert);
  return changed;
}

void describe_kernels(Compression& c, const std::map<std::string, std::string>& kernels) {
  for (WeightLayer& layer : c.layers) {
    const auto found = kernels.find(layer.name);
    if (found != kernels.end()) layer.record.kernel = found->second;
  }
}

void run(Compression& c, Quantizer& quantizer, PhaseClock& clock) {
  Report& report = c.report;
  clock.start("passes");
  report.float_bytes = stored_bytes(c.model);
  if (!dump_dir_of(c).empty()) start_dumps(c.options.dump_dir, c.model);
  RewriteRunner runner(c.model, rewrite_options(c));
  runner.run_passes(RewritePhase::kFloat);
  transform_model(runner, quantizer);

  clock.start("annotate");
  annotate(c, quantizer);
  if (!c.ranks.alone()) c.ranks.require_equal(keys_of(c));
  if (!c.options.resume_dir.empty() && !c.options.dry_run) {
    c.results = LayerResults(c.options.resume_dir, run_digest(c.model, c.annotations, c.options));
    for (const WeightLayer& layer : c.layers) give_pages_back(layer.weight);
  }
  if (needs_layer_inputs(c)) {
    clock.start("statistics");
    collect_layer_inputs(c.model, *c.view, c.layers, c.options, c.results, c.ranks, c.report);
  }
  clock.start("mixed_precision");
  if (has_target(c.options)) {
    apply_group_size_fallback(c.layers);
    allocate_precision(c.layers, c.options, report.float_bytes, c.ranks);
  } else {
    assign_mixed_precision(c.layers, c.options, c.ranks, report);
    apply_group_size_fallback(c.layers);
  }
  require_compressed(c.layers);
  auto other = note_other_weights(c.model, c.layers, report.float_bytes);
  if (other) report.warnings.push_back(std::move(*other));
  if (c.options.dry_run) {
    require_finite_weights(c.layers);
    return describe_plan(c);
  }
  fit_codebooks(c.layers, c.options, c.results, c.ranks);
  if (c.options.awq) {
    clock.start("awq");
    runner.run("scale_channels", [&](RewriteContext& ctx) {
      return apply_awq(ctx.model, *c.view, c.layers, c.options, c.results, c.ranks);
    });
  }
  const bool refines = refines_layers(c.options);
  if (refines) {
    clock.start("column_scales");
    runner.run("scale_columns", [&](RewriteContext& ctx) { return scale_columns(ctx.model, c.layers, c.options); });
  }
  if (c.options.gptq || refines) {
    clock.start(refines ? "refine" : "gptq");
    runner.run("round_layer_by_layer", [&](RewriteContext& ctx) {
      return round_layers(ctx.model, c.layers, c.options, c.results, c.ranks, c.report);
    });
  }
  clock.start("compress");
  std::set<const torch::jit::Node*> written;
  runner.run("compress_weights", [&](RewriteContext& ctx) { return insert_weights(c, ctx.model, written); });
  if (is_trainable(c.options)) {
    require_gradients(c.model);
  } else if (c.options.form == OutputForm::kLowered) {
    std::map<std::string, std::string> kernels;
    const auto activations = c.options.dynamic_activations ? ActivationMode::kDynamic : ActivationMode::kFloat;
    runner.run("fuse_decompression",
               [&](RewriteContext& ctx) { return fuse_decompression(ctx.model, written, kernels, activations); });
    describe_kernels(c, kernels);
  }
  finish_rewrites(runner);
  clock.stop();

  if (!is_trainable(c.options)) {
    if (auto warning = note_float_copies(c.model, c.layers)) report.warnings.push_back(std::move(*warning));
  }
  for (auto& layer : c.layers) report.weights.push_back(layer.record);
  const auto& captured = c.model.warnings();
  report.warnings.insert(report.warnings.end(), captured.begin(), captured.end());
  report.quantized_bytes = stored_bytes(c.model);
  report.rewrites = runner.records();
}

/// Numbers that are not finite are found where they do harm; the weight that they come from says more.
void run_or_name_weight(Compression& c, Quantizer& quantizer, PhaseClock& clock) {
  try {
    run(c, quantizer, clock);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCalibration) require_finite_weights(c.layers);
    throw;
  }
}

CompressedModel compress(Model& model, Quantizer& quantizer, const CompressPt2eOptions& options, RankGroup& ranks) {
  check_compress_pt2e(options);
  require_float(model);
  Compression c{options, options.do_copy ? model.clone() : model, c10::nullopt, {}, nullptr, {}, {}, {}, ranks};
  if (options.dataset) {
    if (options.dataset->count(1) == 0) {
      throw Error(ErrorCode::kDataset, "the calibration data set is empty", "dataset", "give at least one sample");
    }
    c.first = options.dataset->get(0);
  }
  c.report.options = recorded_options(options);
  const OutputForm form = is_trainable(options) ? OutputForm::kFakeQuantize : options.form;
  record_run(c.report, quantizer, form, options.dataset ? &*options.dataset : nullptr);
  PhaseClock clock(c.report);
  name_phase_in_errors(clock, [&] { run_or_name_weight(c, quantizer, clock); });
  if (!ranks.alone()) {
    ranks.require_equal(
        {{"compressed model", fingerprint(c.model)}, {"report", text_digest(c.report.to_json(/*per_channel=*/false))}});
  }
  return {std::move(c.model), std::move(c.report), std::move(c.first), c.results.reused()};
}

}  // namespace

CompressedModel compress_pt2e(Model& model, Quantizer& quantizer, const CompressPt2eOptions& options) {
  RankGroup ranks(options.exchange);
  c10::optional<CompressedModel> result;
  ranks.run([&] { result = compress(model, quantizer, options, ranks); });
  return std::move(*result);
}

void CompressedModel::save(const std::string& path) const {
  OutputFile file(path, "model");
  write_model(model, {{"tsquant_report.json", report.to_json(/*per_channel=*/false)}, {"tsquant_form", report.form}},
              file);
  require_same_results(model, probe, file);
  file.commit();
}

}  // namespace tsquant
