#include "options/struct_fields.h"
#include "options/tables.h"

namespace tsquant {

namespace {

/// "A,B:C" of the command line.
nlohmann::json subgraph_from_text(const std::string& text) {
  const auto names = [](const std::string& list) {
    std::vector<std::string> parts;
    size_t begin = 0;
    for (size_t end; (end = list.find(',', begin)) != std::string::npos; begin = end + 1) {
      parts.push_back(list.substr(begin, end - begin));
    }
    parts.push_back(list.substr(begin));
    return parts;
  };
  const size_t colon = text.find(':');
  if (colon == std::string::npos || text.find(':', colon + 1) != std::string::npos) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no sub-graph", text), "--ignore-subgraph",
                "write FROM:TO");
  }
  return {{"inputs", names(text.substr(0, colon))}, {"outputs", names(text.substr(colon + 1))}};
}

}  // namespace

template <>
const Fields<QuantizationParameters>& fields() {
  using P = QuantizationParameters;
  const auto group = [](const char* name) { return Flag{name, kQuantizerGroup}; };
  static const Fields<P> table{
      option(&P::num_bits, "num_bits", "Bits of {}").at_least(2).at_most(8).on_flag(group("bits")),
      option(&P::mode, "mode", "Zero point of {}").on_flag(group("mode")),
      option(&P::signedness_to_force, "signedness_to_force", "Codes of {}: true or false; default: by the data")
          .on_flag(group("signed")),
      option(&P::per_channel, "per_channel", "One scale per channel of {}: true or false")
          .on_flag(group("per-channel")),
      option(&P::narrow_range, "narrow_range", "Without the lowest code of {}: true or false")
          .on_flag(group("narrow-range")),
      option(&P::destination_type, "destination_type", "With --mode: another format for {}").on_flag(group("fp8")),
  };
  return table;
}

template <>
const Fields<IgnoredScope>& fields() {
  using S = IgnoredScope;
  static const Fields<S> table{
      option(&S::names, "names", "Leave this operator in float (name or alias); repeat it")
          .on_flag({"--ignore-name", kQuantizerGroup}),
      option(&S::patterns, "patterns", "Leave operators in float whose name matches; repeat it")
          .on_flag({"--ignore-pattern", kQuantizerGroup}),
      option(&S::types, "types", "Leave operators of this type in float; repeat it")
          .on_flag({"--ignore-type", kQuantizerGroup}),
      option(&S::subgraphs, "subgraphs", "FROM[,FROM]:TO[,TO]: all operators between; repeat it")
          .on_flag({"--ignore-subgraph", kQuantizerGroup, "", {}, nullptr, subgraph_from_text}),
      option(&S::validate, "validate", "A rule that matches nothing is an error")
          .on_flag({"--lenient-rules", kQuantizerGroup, "Accept ignore rules that match nothing", {}, false})
          .not_in_text(),
  };
  return table;
}

template <>
const Fields<OpenVINOQuantizerOptions>& fields() {
  using O = OpenVINOQuantizerOptions;
  static const Fields<O> table{
      option(&O::mode, "mode", "fp8 instead of 8-bit integers")
          .on_flag({"--mode", kQuantizerGroup})
          .recorded("int8")
          .deciding(),
      option(&O::preset, "preset", "Zero points of activations; default: mixed for transformers, else performance")
          .on_flag({"--preset", kQuantizerGroup})
          .recorded()
          .deciding(),
      option(&O::target_device, "target_device", "Hardware table")
          .on_flag({"--target-device", kQuantizerGroup})
          .recorded()
          .deciding(),
      option(&O::model_type, "model_type", "Kind of network")
          .on_flag({"--model-type", kQuantizerGroup})
          .recorded("none")
          .deciding(),
      struct_option(&O::ignored_scope, "ignored_scope", "Operators to leave in float").recorded("none").deciding(),
      option(&O::overflow_fix, "overflow_fix", "Half range of weights")
          .on_flag({"--overflow-fix", kQuantizerGroup})
          .recorded()
          .deciding(),
      option(&O::quantize_outputs, "quantize_outputs", "Quantize the model's outputs too")
          .on_flag({"--quantize-outputs", kQuantizerGroup, "", {}, true})
          .recorded()
          .deciding(),
      struct_option(&O::activations_quantization_params, "activations_quantization_params", "Of activations")
          .with_flag_prefix("--activations-", "activations")
          .recorded()
          .deciding(),
      struct_option(&O::weights_quantization_params, "weights_quantization_params", "Of weights")
          .with_flag_prefix("--weights-", "weights")
          .recorded()
          .deciding(),
      option(&O::quantizer_propagation_rule, "quantizer_propagation_rule", "Where branches meet")
          .on_flag({"--propagation-rule", kQuantizerGroup})
          .recorded()
          .deciding(),
      option(&O::weights_only, "weights_only", "Compress weights alone").recorded("none").deciding(),
  };
  return table;
}

nlohmann::json ValueCodec<WeightsOnlyOptions>::write(const WeightsOnlyOptions& options) {
  return write_fields(options);
}

void ValueCodec<WeightsOnlyOptions>::read(const nlohmann::json& json, WeightsOnlyOptions& options) {
  read_fields(json, options);
}

nlohmann::json ValueCodec<WeightsOnlyOptions>::schema() { return object_schema(fields<WeightsOnlyOptions>()); }

}  // namespace tsquant
