#include "options/tables.h"

namespace tsquant {

template <>
const Fields<AdvancedAccuracyRestorerParameters>& fields() {
  using P = AdvancedAccuracyRestorerParameters;
  static const Fields<P> table{
      option(&P::max_num_iterations, "max_num_iterations", "Groups of operators tried at most")
          .at_least(0)
          .on_flag({"--max-iterations", kAccuracyGroup}),
      option(&P::tune_hyperparams, "tune_hyperparams", "Search the options of quantization first")
          .on_flag({"--tune", kAccuracyGroup, "", {}, true}),
      option(&P::ranking_subset_size, "ranking_subset_size",
             "Validation batches that rank the operators; default: --subset-size")
          .at_least(1)
          .on_flag({"--ranking-subset-size", kAccuracyGroup}),
      option(&P::num_ranking_workers, "num_ranking_workers", "Operators ranked at the same time")
          .at_least(1)
          .on_flag({"--ranking-workers", kAccuracyGroup}),
      option(&P::intermediate_model_dir, "intermediate_model_dir",
             "Folder for the fully quantized model and the best one so far")
          .on_flag({"--intermediate-dir", kAccuracyGroup}),
      option(&P::restore_mode, "restore_mode", "What is returned to float").on_flag({"--restore-mode", kAccuracyGroup}),
      option(&P::convert_to_mixed_preset, "convert_to_mixed_preset", "Try the mixed preset first")
          .on_flag({"--convert-to-mixed", kAccuracyGroup, "", {}, true}),
  };
  return table;
}

template <>
const Fields<AccuracyControlOptions>& fields() {
  using O = AccuracyControlOptions;
  static const Fields<O> table{
      option(&O::max_drop, "max_drop",
             "Return operators to float until the metric drops by no more than this, e.g. 0.01: one point of top1. "
             "Exit code 6 when that cannot be reached; the best model is written")
          .at_least(0)
          .on_flag({"--max-drop", kAccuracyGroup}),
      option(&O::drop_type, "drop_type", "How the drop is computed").on_flag({"--drop-type", kAccuracyGroup}),
      struct_option(&O::advanced_accuracy_restorer_parameters, "advanced_accuracy_restorer_parameters",
                    "Of the search"),
  };
  return table;
}

}  // namespace tsquant
