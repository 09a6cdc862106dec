#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "options/check_fields.h"
#include "options/common_fields.h"
#include "options/option_text.h"
#include "options/tables.h"

namespace tsquant {
namespace {

using nlohmann::json;
using Names = std::set<std::string>;

/// The fields of a struct as its header declares them: `type name = default;`, also several of one type in a line.
Names declared(const std::string& header, const std::string& name) {
  std::ifstream file(std::string(TSQUANT_SOURCE_DIR) + "/include/tsquant/" + header);
  Names names;
  bool inside = false;
  int nested = 0;
  for (std::string line; std::getline(file, line);) {
    if (line == "struct " + name + " {") inside = true;
    if (!inside) continue;
    if (line == "};") break;
    line = line.substr(0, line.find("//"));
    if (line.rfind("  struct ", 0) == 0) ++nested;
    line = std::regex_replace(line, std::regex("<[^;]*>"), "");
    const bool is_function = line.find('(') < line.find('=');
    if (nested == 0 && line.find(';') != std::string::npos && !is_function) {
      static const std::regex field(R"((\w+)\s*(=[^,;]*)?[,;])");
      for (auto it = std::sregex_iterator(line.begin(), line.end(), field); it != std::sregex_iterator(); ++it) {
        names.insert((*it)[1]);
      }
    }
    if (nested > 0 && line == "  };") --nested;
  }
  return names;
}

template <typename Struct>
void expect_rows(const std::string& header, const std::string& name, const Names& in_code_only = {}) {
  Names rows = in_code_only;
  for (const auto& row : fields<Struct>()) {
    EXPECT_TRUE(rows.insert(row.name).second) << name << "." << row.name << " has two rows, or is said to have none";
    EXPECT_FALSE(row.help.empty()) << row.name;
  }
  EXPECT_EQ(rows, declared(header, name)) << "fields of " << name << " without a row, or rows without a field";
}

TEST(Fields, EveryFieldOfTheHeadersHasARow) {
  expect_rows<QuantizePt2eOptions>("quantize_pt2e.h", "QuantizePt2eOptions", {"do_copy", "progress", "exchange"});
  expect_rows<QuantizeOptions>("quantize.h", "QuantizeOptions", {"do_copy", "progress"});
  expect_rows<AdvancedQuantizationParameters>("advanced_parameters.h", "AdvancedQuantizationParameters");
  expect_rows<OpenVINOQuantizerOptions>("openvino_quantizer.h", "OpenVINOQuantizerOptions");
  expect_rows<QuantizationParameters>("openvino_quantizer.h", "QuantizationParameters");
  expect_rows<IgnoredScope>("openvino_quantizer.h", "IgnoredScope");
  expect_rows<BiasCorrectionParameters>("algorithm_parameters.h", "BiasCorrectionParameters");
  expect_rows<SmoothQuantParameters>("algorithm_parameters.h", "SmoothQuantParameters");
  expect_rows<RangeEstimatorParameters>("range_estimator.h", "RangeEstimatorParameters");
  expect_rows<StatisticsCollectorParameters>("range_estimator.h", "StatisticsCollectorParameters");
  expect_rows<AccuracyControlOptions>("quantize_with_accuracy_control.h", "AccuracyControlOptions");
  expect_rows<WeightsOnlyOptions>("openvino_quantizer.h", "WeightsOnlyOptions");
  expect_rows<CompressPt2eOptions>("compress_pt2e.h", "CompressPt2eOptions",
                                   {"dataset", "do_copy", "exchange", "progress"});
  expect_rows<CompressWeightsOptions>("compress_weights.h", "CompressWeightsOptions",
                                      {"dataset", "do_copy", "exchange", "progress"});
  const std::string compression = "compression_parameters.h";
  expect_rows<AdvancedAWQParameters>(compression, "AdvancedAWQParameters");
  expect_rows<AdvancedScaleEstimationParameters>(compression, "AdvancedScaleEstimationParameters");
  expect_rows<AdvancedGPTQParameters>(compression, "AdvancedGPTQParameters");
  expect_rows<AdvancedLoraCorrectionParameters>(compression, "AdvancedLoraCorrectionParameters");
  expect_rows<AdaptiveCodebookParameters>(compression, "AdaptiveCodebookParameters");
  expect_rows<AdvancedCompressionParameters>(compression, "AdvancedCompressionParameters");
  expect_rows<AdvancedAccuracyRestorerParameters>("accuracy_restorer_parameters.h",
                                                  "AdvancedAccuracyRestorerParameters", {"ranking_fn"});
}

/// Another value that the schema of a row allows; null when the test knows none.
json another_value(const json& schema, const json& value) {
  if (schema.contains("enum")) {
    for (const auto& word : schema.at("enum")) {
      if (word != value) return word;
    }
    return schema.at("enum").at(0);
  }
  if (!schema.at("type").is_string()) return "mean_minmax";
  const auto type = schema.at("type").get<std::string>();
  if (type == "boolean") return value != true;
  if (type == "integer") return value == 5 ? 6 : 5;
  if (type == "number") return 0.25;
  if (type == "string") return "other";
  return nullptr;
}

template <typename Struct>
void expect_round_trips() {
  for_each_leaf(fields<Struct>(), [](const Field<Struct>& row) {
    const json other = another_value(row.schema, row.default_value);
    if (other.is_null()) return;
    Struct object;
    EXPECT_EQ(row.get(object), row.default_value) << row.name;
    row.set(object, other);
    EXPECT_EQ(row.get(object), other) << row.name;
    Struct untouched = object;
    row.set(untouched, row.get(object));
    EXPECT_EQ(row.get(untouched), other) << row.name;
    for_each_leaf(fields<Struct>(), [&](const Field<Struct>& neighbour) {
      if (neighbour.name == row.name) return;
      EXPECT_EQ(neighbour.get(object), neighbour.default_value) << row.name << " changes " << neighbour.name;
    });
  });
}

TEST(Fields, ValuesGoThroughJsonAndReachTheirFieldAlone) {
  expect_round_trips<QuantizePt2eOptions>();
  expect_round_trips<OpenVINOQuantizerOptions>();
  expect_round_trips<AccuracyControlOptions>();
  expect_round_trips<QuantizeOptions>();
  expect_round_trips<WeightsOnlyOptions>();
  expect_round_trips<CompressPt2eOptions>();
  expect_round_trips<CompressWeightsOptions>();
}

TEST(Fields, EveryOptionOfQuantizingIsOnTheCommandLine) {
  // What `tsquant compress` says with flags of its own, and what only programs can give.
  static const Names elsewhere{"weights_only", "advanced_parameters.backend_params"};
  const auto expect = [](const auto& rows, auto&& self) -> void {
    for (const auto& row : rows) {
      if (!row.flag.name.empty() || elsewhere.count(row.name) > 0) continue;
      EXPECT_FALSE(row.parts.empty()) << row.name << " has no flag";
      self(row.parts, self);
    }
  };
  expect(fields<QuantizePt2eOptions>(), expect);
  expect(fields<OpenVINOQuantizerOptions>(), expect);
  expect(fields<AccuracyControlOptions>(), expect);
  expect(fields<CompressWeightsOptions>(), expect);
}

TEST(Fields, FlagsHaveNamesOfTheirOwn) {
  Names names;
  const auto add = [&](const auto& rows, auto&& self) -> void {
    for (const auto& row : rows) {
      if (!row.flag.name.empty()) EXPECT_TRUE(names.insert(row.flag.name).second) << row.flag.name;
      if (row.flag.name.empty()) self(row.parts, self);
    }
  };
  add(fields<QuantizePt2eOptions>(), add);
  add(fields<OpenVINOQuantizerOptions>(), add);
  add(fields<AccuracyControlOptions>(), add);
  EXPECT_TRUE(names.count("--weights-bits") && names.count("--activations-bits"));
}

TEST(Fields, EveryLimitIsChecked) {
  int limits = 0;
  for_each_leaf(fields<QuantizePt2eOptions>(), [&](const Field<QuantizePt2eOptions>& row) {
    for (const std::string limit : {"minimum", "maximum", "exclusiveMinimum"}) {
      if (!row.schema.contains(limit)) continue;
      ++limits;
      QuantizePt2eOptions options;
      options.smooth_quant = true;
      const double edge = row.schema.at(limit).get<double>();
      const double beyond = limit == "maximum" ? edge + 1 : limit == "minimum" ? edge - 1 : edge;
      row.set(options, row.schema.at("type") == "integer" ? json(static_cast<int64_t>(beyond)) : json(beyond));
      try {
        check_limits(options);
        ADD_FAILURE() << row.name << " accepts " << beyond;
      } catch (const Error& error) {
        EXPECT_EQ(error.place(), row.name);
        EXPECT_NE(error.advice().find("use "), std::string::npos) << error.what();
      }
      if (limit == "exclusiveMinimum") continue;
      row.set(options, row.schema.at("type") == "integer" ? json(static_cast<int64_t>(edge)) : json(edge));
      EXPECT_NO_THROW(check_limits(options)) << row.name;
    }
  });
  EXPECT_GE(limits, 10);
}

TEST(Fields, WhatWouldBeIgnoredIsRefused) {
  QuantizePt2eOptions options;
  EXPECT_NO_THROW(check_unused(options));
  options.engine = "onednn";
  EXPECT_THROW(check_unused(options), Error);
  options.form = OutputForm::kLowered;
  EXPECT_NO_THROW(check_unused(options));
  options.smooth_quant_params.matmul = 0.5;
  EXPECT_THROW(check_unused(options), Error);
  options.smooth_quant_params.matmul = -1;
  EXPECT_NO_THROW(check_unused(options)) << "switched off, as SmoothQuant is";
  options.fast_bias_correction = c10::nullopt;
  EXPECT_NO_THROW(check_unused(options));
  options.bias_correction_params.threshold = 3;
  try {
    check_unused(options);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.place(), "bias_correction_params.threshold");
  }
}

TEST(Fields, RecordsUseTheWordsOfTheCommandLine) {
  QuantizePt2eOptions options;
  auto recorded = recorded_options(options);
  EXPECT_EQ(recorded.at("bias_correction"), "fast");
  EXPECT_EQ(recorded.at("activations_range_estimator_params"), "default");
  EXPECT_EQ(recorded.count("cost"), 0u) << "of the lowered form";
  options.fast_bias_correction = c10::nullopt;
  options.form = OutputForm::kLowered;
  options.activations_range_estimator_params = RangeEstimatorParameters::median_minmax();
  options.weights_range_estimator_params.max.aggregator_type = AggregatorType::kMedian;
  recorded = recorded_options(options);
  EXPECT_EQ(recorded.at("bias_correction"), "none");
  EXPECT_EQ(recorded.count("bias_correction_params"), 0u);
  EXPECT_EQ(recorded.at("cost"), "table");
  EXPECT_EQ(recorded.at("activations_range_estimator_params"), "median_minmax");
  EXPECT_NE(recorded.at("weights_range_estimator_params").find("median"), std::string::npos);
}

TEST(Fields, StatisticsAreToldApartByWhatDecidesThem) {
  QuantizePt2eOptions one, other;
  other.subset_size = 7;
  other.cost = LoweringCost::kOff;
  EXPECT_EQ(statistics_settings(one), statistics_settings(other));
  other.channel_alignment = true;
  EXPECT_NE(statistics_settings(one), statistics_settings(other));
}

TEST(Fields, OptionsOfOneNameAreHandedOn) {
  QuantizeOptions from;
  from.subset_size = 17;
  from.preset = QuantizationPreset::kMixed;
  from.ignored_scope.names = {"a"};
  from.ignored_scope.subgraphs = {{{"b"}, {"c", "d"}}};
  OpenVINOQuantizerOptions quantizer;
  QuantizePt2eOptions options;
  copy_common(from, quantizer);
  copy_common(from, options);
  EXPECT_EQ(options.subset_size, 17);
  EXPECT_EQ(quantizer.preset, QuantizationPreset::kMixed);
  EXPECT_EQ(quantizer.ignored_scope.names, from.ignored_scope.names);
  ASSERT_EQ(quantizer.ignored_scope.subgraphs.size(), 1u);
  EXPECT_EQ(quantizer.ignored_scope.subgraphs[0].outputs, (std::vector<std::string>{"c", "d"}));
}

}  // namespace
}  // namespace tsquant
