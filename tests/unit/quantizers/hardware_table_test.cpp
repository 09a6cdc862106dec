#include "quantizers/openvino/hardware_table.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "quantizers/openvino/placement_graph.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using json = nlohmann::json;

/// NNCF's own tables (scripts/make_hardware_goldens.py).
const json& golden() {
  static const json tables = [] {
    std::ifstream file(data_file("nncf_tables.json"));
    return json::parse(file);
  }();
  return tables;
}

json as_json(const openvino::QConfigList& list) {
  json result = json::array();
  for (const auto& config : list) {
    const json sign = config.signedness_to_force ? json(*config.signedness_to_force) : json();
    const char* mode = config.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric";
    result.push_back({config.num_bits, mode, sign, config.per_channel, config.narrow_range});
  }
  return result;
}

std::string name_of(QuantizationTrait trait) {
  switch (trait) {
    case QuantizationTrait::kInputsQuantizable:
      return "INPUTS_QUANTIZABLE";
    case QuantizationTrait::kQuantizationAgnostic:
      return "QUANTIZATION_AGNOSTIC";
    case QuantizationTrait::kConcat:
      return "CONCAT";
    case QuantizationTrait::kOutputQuantizationAsWeights:
      return "OUTPUT_QUANTIZATION_AS_WEIGHTS";
    case QuantizationTrait::kNonQuantizable:
      break;
  }
  return "NON_QUANTIZABLE";
}

TEST(HardwareTable, every_row_of_every_device_is_nncfs) {
  const std::multimap<std::string, TargetDevice> devices = {{"CPU", TargetDevice::kAny},
                                                            {"CPU", TargetDevice::kCpu},
                                                            {"CPU", TargetDevice::kCpuSpr},
                                                            {"GPU", TargetDevice::kGpu},
                                                            {"NPU", TargetDevice::kNpu}};
  for (const auto& [name, device] : devices) {
    const json& table = golden()["tables"][name];
    ASSERT_GT(table.size(), 40u);
    const auto plans = openvino::make_hardware_table(device, false);
    for (const auto& [metatype, unused] : golden()["metatypes"].items()) {
      const auto& plan = plans.at(openvino::metatype_index(metatype));
      ASSERT_EQ(plan.listed, table.contains(metatype)) << name << " " << metatype;
      if (!plan.listed) continue;
      EXPECT_EQ(as_json(plan.activations), table[metatype]["activations"]) << name << " " << metatype;
      EXPECT_EQ(as_json(plan.weights), table[metatype]["weights"]) << name << " " << metatype;
      EXPECT_EQ(plan.unified_scales, table[metatype]["unified"].get<bool>()) << name << " " << metatype;
    }
  }
}

TEST(HardwareTable, gpu_and_npu_use_the_cpus_rows_for_eight_bits) {
  const auto cpu = openvino::make_hardware_table(TargetDevice::kCpu, true);
  for (const auto device : {TargetDevice::kGpu, TargetDevice::kNpu}) {
    const auto plans = openvino::make_hardware_table(device, true);
    for (size_t i = 0; i < plans.size(); ++i) {
      EXPECT_EQ(as_json(plans[i].activations), as_json(cpu[i].activations)) << op_table()[i].metatype;
      EXPECT_EQ(as_json(plans[i].weights), as_json(cpu[i].weights)) << op_table()[i].metatype;
    }
  }
}

TEST(OperatorTable, every_metatype_is_nncfs) {
  const json& metatypes = golden()["metatypes"];
  ASSERT_GT(metatypes.size(), 90u);
  for (const auto& [metatype, row] : metatypes.items()) {
    const OpInfo& ours = find_metatype(metatype);
    ASSERT_EQ(ours.metatype, metatype);
    const std::set<std::string> functions(ours.functions.begin(), ours.functions.end());
    EXPECT_EQ(json(functions), row["functions"]) << metatype;
    EXPECT_EQ(json(ours.hw_ops), row["hw_ops"]) << metatype;
    EXPECT_EQ(json(ours.weight_ports), row["weight_ports"]) << metatype;
    EXPECT_EQ(ours.bias_port, row["bias_port"].get<int64_t>()) << metatype;
    EXPECT_EQ(json(ours.ignored_input_ports), row["ignored_ports"]) << metatype;
    EXPECT_EQ(json(ours.target_input_ports), row["target_ports"]) << metatype;
    EXPECT_EQ(name_of(ours.default_trait), row["trait"].get<std::string>()) << metatype;
  }
}

}  // namespace
}  // namespace tsquant::testing
