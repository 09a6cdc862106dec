#include "options/struct_fields.h"
#include "options/tables.h"

namespace tsquant {

namespace {

using O = QuantizePt2eOptions;

std::string not_lowered(const O& options) {
  if (options.form == OutputForm::kLowered) return "";
  return fmt::format("the {} form has no kernels", word_of(words<OutputForm>(), options.form));
}

std::string lowered(const O& options) {
  return options.form == OutputForm::kLowered ? "the kernels of the lowered form read integer codes" : "";
}

std::string without_correction(const O& options) {
  return options.fast_bias_correction
             ? ""
             : "biases are not corrected (fast_bias_correction is none or disable_bias_correction is true)";
}

/// Negative values switch a kind of layers off, which is no wish that would be ignored.
Field<O> smooth_quant_params_row() {
  auto row = struct_option(&O::smooth_quant_params, "smooth_quant_params", "Of SmoothQuant");
  row.unused_when([](const O& options) { return options.smooth_quant ? "" : "smooth_quant is false"; });
  for (Field<O>& part : row.parts) {
    part.unused = [get = part.get, unused = row.unused](const O& options) {
      return get(options) < 0 ? std::string() : unused(options);
    };
  }
  return row;
}

}  // namespace

template <>
const Fields<QuantizePt2eOptions>& fields() {
  static const Fields<O> table{
      option(&O::subset_size, "subset_size", "Calibration samples (batches)")
          .at_least(1)
          .on_flag({"--subset-size", kResultGroup})
          .recorded(),
      option(&O::fold_quantize, "fold_quantize", "Weights become integer codes")
          .on_flag({"--no-fold", kResultGroup, "Keep float weights followed by quantize and dequantize", {}, false})
          .unused_when(lowered)
          .recorded(),
      option(&O::form, "form", "Operators in the file").on_flag({"--form", kResultGroup}),
      option(&O::engine, "engine", "Lowered form: tsquant (default; runs everywhere), onednn, qnnpack or fbgemm")
          .on_flag({"--engine", kResultGroup})
          .unused_when(not_lowered),
      option(&O::cost, "cost",
             "Lowered form: operators that are slower on codes stay in float, judged by the rates of all processors "
             "(table), of this machine (measure), or not at all (off)")
          .on_flag({"--cost", kResultGroup})
          .unused_when(not_lowered)
          .recorded(),
      option(&O::batchwise_statistics, "batchwise_statistics", "Activation range per item of a batch, or per batch")
          .on_flag({"--statistics", kAlgorithmsGroup, "", {{"item", true}, {"batch", false}}}),
      option(&O::inplace_statistics, "inplace_statistics", "Tensors are reduced to statistics at once")
          .on_flag({"--keep-activations",
                    kAlgorithmsGroup,
                    "Reduce the tensors of a sample to statistics after its run instead of at once",
                    {},
                    false})
          .recorded(),
      option(&O::fast_bias_correction, "fast_bias_correction", "Correct biases for the mean error of the weights")
          .on_flag(
              {"--bias-correction", kAlgorithmsGroup, "", {{"none", nullptr}, {"fast", true}, {"accurate", false}}})
          .recorded_as("bias_correction")
          .deciding(),
      struct_option(&O::bias_correction_params, "bias_correction_params", "Of bias correction")
          .unused_when(without_correction)
          .recorded()
          .deciding(),
      option(&O::smooth_quant, "smooth_quant",
             "Move the range of activation channels into the weights that read them; default: for transformers")
          .on_flag({"--smooth-quant,!--no-smooth-quant", kAlgorithmsGroup, "", {}, true})
          .recorded()
          .deciding(),
      smooth_quant_params_row().recorded_as("smooth_quant_alpha").deciding(),
      option(&O::channel_alignment, "channel_alignment", "Align the channel ranges of consecutive layers")
          .on_flag({"--channel-alignment", kAlgorithmsGroup, "", {}, true})
          .recorded()
          .deciding(),
      estimator_option(&O::activations_range_estimator_params, "activations_range_estimator_params",
                       "How ranges of activations are found")
          .on_flag({"--range-estimator-activations", kAlgorithmsGroup, "", estimator_choice()})
          .recorded(),
      estimator_option(&O::weights_range_estimator_params, "weights_range_estimator_params",
                       "How ranges of weights are found")
          .on_flag({"--range-estimator-weights", kAlgorithmsGroup, "", estimator_choice()})
          .recorded(),
      option(&O::allow_empty, "allow_empty", "Accept a model in which nothing is quantized")
          .on_flag({"--allow-empty", "", "", {}, true}),
      option(&O::skip_passes, "skip_passes", "Leave out this rewrite of the graph; repeat it")
          .on_flag({"--skip-pass", kQuantizerGroup})
          .recorded("")
          .deciding(),
      option(&O::dump_dir, "dump_dir", "Folder for the graph after each rewrite that changed it, NNN_<name>.ir")
          .on_flag({"--dump-dir", ""}),
      option(&O::statistics_path, "statistics_path",
             "Folder of statistics: read when they are of the same model, data and settings, else written")
          .on_flag({"--statistics-path", kStatisticsGroup}),
      option(&O::statistics_out, "statistics_out", "Write the statistics of this run to a file")
          .on_flag({"--stats-out", kStatisticsGroup}),
      option(&O::statistics_in, "statistics_in", "Read statistics instead of running the data")
          .on_flag({"--stats-in", kStatisticsGroup}),
  };
  return table;
}

}  // namespace tsquant
