#include "options/tables.h"

namespace tsquant {

template <>
const Fields<StatisticsCollectorParameters>& fields() {
  using P = StatisticsCollectorParameters;
  static const Fields<P> table{
      option(&P::statistics_type, "statistics_type", "What is computed from one sample"),
      option(&P::aggregator_type, "aggregator_type", "How the statistics of samples become one number"),
      option(&P::clipping_value, "clipping_value", "Values are limited to this magnitude first").above(0),
      option(&P::quantile_outlier_prob, "quantile_outlier_prob", "Share of values that are outliers")
          .at_least(0)
          .at_most(0.5),
  };
  return table;
}

template <>
const Fields<RangeEstimatorParameters>& fields() {
  using P = RangeEstimatorParameters;
  static const Fields<P> table{
      struct_option(&P::min, "min", "The lower bound"),
      struct_option(&P::max, "max", "The upper bound"),
  };
  return table;
}

template <>
const Fields<BiasCorrectionParameters>& fields() {
  using P = BiasCorrectionParameters;
  static const Fields<P> table{
      option(&P::apply_for_all_nodes, "apply_for_all_nodes", "Give quantized layers without a bias one")
          .on_flag({"--bias-for-all-nodes", kAlgorithmsGroup, "", {}, true}),
      option(&P::threshold, "threshold", "Largest allowed relative change of a bias")
          .at_least(0)
          .on_flag({"--bias-threshold", kAlgorithmsGroup}),
      option(&P::reference, "reference",
             "Mean output that a layer is compared with; default: simulated for fast, the float model's for accurate")
          .on_flag({"--bias-reference", kAlgorithmsGroup}),
      option(&P::smallest_shift, "smallest_shift",
             "Smallest shift worth writing, in standard deviations of the rounding noise; 0: every shift")
          .at_least(0)
          .on_flag({"--bias-smallest-shift", kAlgorithmsGroup}),
  };
  return table;
}

template <>
const Fields<SmoothQuantParameters>& fields() {
  using P = SmoothQuantParameters;
  const char* help = "How much of the range moves, from 0 to 1; negative: layers of this kind are left out";
  static const Fields<P> table{
      option(&P::convolution, "convolution", help)
          .at_most(1)
          .on_flag({"--smooth-quant-alpha-convolution", kAlgorithmsGroup}),
      option(&P::matmul, "matmul", help).at_most(1).on_flag({"--smooth-quant-alpha-matmul", kAlgorithmsGroup}),
  };
  return table;
}

}  // namespace tsquant
