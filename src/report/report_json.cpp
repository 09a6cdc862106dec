#include <cmath>

#include "io/json_text.h"
#include "tsquant/error.h"
#include "tsquant/report.h"

namespace tsquant {

namespace {

using nlohmann::ordered_json;

ordered_json node_json(const NodeRecord& node) {
  return {{"name", node.name}, {"fx_name", node.fx_name}, {"type", node.type},     {"quantized", node.quantized},
          {"code", node.code}, {"reason", node.reason},   {"kernel", node.kernel}, {"bias", node.bias}};
}

ordered_json quantizer_json(const QuantizerRecord& q, bool per_channel) {
  const bool lists = per_channel || q.scale.size() <= 1;
  ordered_json json{{"id", q.id},
                    {"kind", q.kind},
                    {"node", q.node},
                    {"input_port", q.input_port},
                    {"dtype", q.dtype},
                    {"quant_min", q.quant_min},
                    {"quant_max", q.quant_max},
                    {"scale", lists ? q.scale : std::vector<double>{}},
                    {"zero_point", lists ? q.zero_point : std::vector<int64_t>{}},
                    {"channels", q.scale.size()},
                    {"min", q.min},
                    {"max", q.max},
                    {"non_finite", q.non_finite}};
  if (lists && !q.float_zero_point.empty()) json["float_zero_point"] = q.float_zero_point;
  return json;
}

ordered_json weight_json(const WeightRecord& w) {
  return {{"name", w.name},
          {"node", w.node},
          {"shape", w.shape},
          {"format", w.format},
          {"group_size", w.group_size},
          {"ratio_defining", w.ratio_defining},
          {"score", w.score},
          {"float_bytes", w.float_bytes},
          {"compressed_bytes", w.compressed_bytes},
          {"error_before", w.error_before},
          {"error_after", w.error_after},
          {"kernel", w.kernel},
          {"damping", w.damping},
          {"algorithms", w.algorithms},
          {"remarks", w.remarks}};
}

/// JSON has no NaN or infinity: they are written as null and read back as NaN.
double number_or_nan(const ordered_json& value) { return value.is_number() ? value.get<double>() : std::nan(""); }

std::vector<double> numbers_or_nan(const ordered_json& values) {
  std::vector<double> numbers;
  for (const auto& value : values) numbers.push_back(number_or_nan(value));
  return numbers;
}

NodeRecord node_from(const ordered_json& json) {
  return {json.at("name"), json.at("fx_name"), json.at("type"),   json.at("quantized"),
          json.at("code"), json.at("reason"),  json.at("kernel"), json.value("bias", "")};
}

QuantizerRecord quantizer_from(const ordered_json& json) {
  return {json.at("id"),
          json.at("kind"),
          json.at("node"),
          json.at("input_port"),
          json.at("dtype"),
          json.at("quant_min"),
          json.at("quant_max"),
          numbers_or_nan(json.at("scale")),
          json.at("zero_point").get<std::vector<int64_t>>(),
          number_or_nan(json.at("min")),
          number_or_nan(json.at("max")),
          json.at("non_finite"),
          numbers_or_nan(json.value("float_zero_point", ordered_json::array()))};
}

WeightRecord weight_from(const ordered_json& json) {
  WeightRecord w;
  w.name = json.at("name");
  w.node = json.at("node");
  w.shape = json.at("shape").get<std::vector<int64_t>>();
  w.format = json.at("format");
  w.group_size = json.at("group_size");
  w.ratio_defining = json.at("ratio_defining");
  w.score = number_or_nan(json.at("score"));
  w.float_bytes = json.at("float_bytes");
  w.compressed_bytes = json.at("compressed_bytes");
  w.error_before = number_or_nan(json.at("error_before"));
  w.error_after = number_or_nan(json.at("error_after"));
  w.kernel = json.at("kernel");
  w.damping = number_or_nan(json.at("damping"));
  w.algorithms = json.at("algorithms").get<std::vector<std::string>>();
  w.remarks = json.at("remarks").get<std::vector<std::string>>();
  return w;
}

Report report_from(const ordered_json& json) {
  Report report;
  report.version = json.at("version");
  report.form = json.at("form");
  report.engine = json.at("engine");
  report.samples = json.at("samples").is_null() ? -1 : json.at("samples").get<int64_t>();
  report.float_bytes = json.at("float_bytes");
  report.quantized_bytes = json.at("quantized_bytes");
  report.options = json.at("options").get<std::map<std::string, std::string>>();
  report.warnings = json.at("warnings").get<std::vector<std::string>>();
  for (const auto& phase : json.at("phases")) {
    report.phases.push_back({phase.at("name"), number_or_nan(phase.at("seconds")), phase.at("peak_bytes")});
  }
  // Reports of earlier versions have none.
  for (const auto& rewrite : json.value("rewrites", ordered_json::array())) {
    report.rewrites.push_back(
        {rewrite.at("name"), rewrite.at("phase"), rewrite.at("changed"), number_or_nan(rewrite.at("seconds"))});
  }
  for (const auto& node : json.at("nodes")) report.nodes.push_back(node_from(node));
  for (const auto& quantizer : json.at("quantizers")) report.quantizers.push_back(quantizer_from(quantizer));
  for (const auto& weight : json.value("weights", ordered_json::array())) report.weights.push_back(weight_from(weight));
  return report;
}

}  // namespace

std::string Report::to_json(bool per_channel) const {
  ordered_json json{{"version", version},
                    {"form", form},
                    {"engine", engine},
                    {"samples", samples < 0 ? ordered_json() : ordered_json(samples)},
                    {"operators", nodes.size()},
                    {"quantized_operators", quantized_count()},
                    {"float_bytes", float_bytes},
                    {"quantized_bytes", quantized_bytes},
                    {"options", options},
                    {"warnings", warnings},
                    {"phases", ordered_json::array()},
                    {"rewrites", ordered_json::array()},
                    {"nodes", ordered_json::array()},
                    {"quantizers", ordered_json::array()}};
  // Times differ from run to run; the same model, data and options must give the same file.
  for (const auto& phase : per_channel ? phases : std::vector<PhaseRecord>{}) {
    json["phases"].push_back({{"name", phase.name}, {"seconds", phase.seconds}, {"peak_bytes", phase.peak_bytes}});
  }
  for (const auto& rewrite : per_channel ? rewrites : std::vector<RewriteRecord>{}) {
    json["rewrites"].push_back(
        {{"name", rewrite.name}, {"phase", rewrite.phase}, {"changed", rewrite.changed}, {"seconds", rewrite.seconds}});
  }
  for (const auto& node : nodes) json["nodes"].push_back(node_json(node));
  for (const auto& quantizer : quantizers) json["quantizers"].push_back(quantizer_json(quantizer, per_channel));
  if (!weights.empty()) json["weights"] = ordered_json::array();
  for (const auto& weight : weights) json["weights"].push_back(weight_json(weight));
  return json.dump(per_channel ? 1 : -1, ' ', false, ordered_json::error_handler_t::replace);
}

Report Report::from_json(const std::string& text) {
  std::string reason;
  try {
    return report_from(parse_json<ordered_json>(text));
  } catch (const JsonFault& fault) {
    reason = fault.what();
  } catch (const nlohmann::json::exception& error) {
    reason = json_reason(error);
  }
  throw Error(ErrorCode::kModelLoad, "this is no tsquant report: " + reason, "report",
              "the file is damaged, or it comes from another version of tsquant");
}

}  // namespace tsquant
