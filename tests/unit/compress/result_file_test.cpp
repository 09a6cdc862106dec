// Files of results: what is written is read again, and nothing else is taken for one.
#include "flows/compression/result_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "calibration/fingerprint.h"
#include "flows/compression/layer_results.h"
#include "support/files.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant {
namespace {

using testing::bytes_of;
using testing::thrown_error;

const ResultKey kKey{"0123456789abcdef", "codes", "layer.weight"};

std::string path_in_folder() { return testing::temp_dir() + "/a.result"; }

LayerResult some_result() {
  at::manual_seed(1);
  LayerResult result;
  for (const auto type : {c10::kByte, c10::kChar, c10::kLong, c10::kFloat, c10::kDouble, c10::kHalf, c10::kBFloat16}) {
    result.tensors.push_back((at::rand({2, 3}) * 100).to(type));
  }
  result.tensors.emplace_back();
  result.tensors.push_back(at::empty({0, 4}));
  result.tensors.push_back(at::full({}, INFINITY, at::kDouble));
  result.tensors.push_back(at::arange(6).reshape({2, 3}).t());
  result.values = {{"remarks", {"one\ntwo", "\"three\""}}, {"number", 7}};
  return result;
}

TEST(ResultFile, IsReadAsItWasWritten) {
  const std::string path = path_in_folder();
  const LayerResult written = some_result();
  write_result(path, kKey, written);
  const LayerResult read = read_result(path, kKey);
  EXPECT_EQ(read.values, written.values);
  ASSERT_EQ(read.tensors.size(), written.tensors.size());
  for (size_t i = 0; i < read.tensors.size(); ++i) {
    ASSERT_EQ(read.tensors[i].defined(), written.tensors[i].defined()) << i;
    if (!read.tensors[i].defined()) continue;
    EXPECT_EQ(read.tensors[i].scalar_type(), written.tensors[i].scalar_type()) << i;
    EXPECT_TRUE(at::equal(read.tensors[i], written.tensors[i])) << i;
  }
}

TEST(ResultFile, EveryDamageIsSeen) {
  const std::string path = path_in_folder();
  write_result(path, kKey, some_result());
  const std::string whole = bytes_of(path);
  const auto refused = [&](const std::string& bytes, size_t at) {
    std::ofstream(path, std::ios::binary) << bytes;
    const Error error = thrown_error([&] { read_result(path, kKey); });
    EXPECT_EQ(error.code(), ErrorCode::kIo) << at;
    EXPECT_EQ(error.place(), path);
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 1);
    refused(flipped, i);
    refused(whole.substr(0, i), i);
  }
  refused(whole + "x", whole.size());
}

TEST(ResultFile, OtherRunsStepsAndLayersAreRefused) {
  const std::string path = path_in_folder();
  write_result(path, kKey, some_result());
  for (int part = 0; part < 3; ++part) {
    ResultKey other = kKey;
    (part == 0 ? other.run : part == 1 ? other.step : other.layer) += "x";
    EXPECT_NE(thrown_error([&] { read_result(path, other); }).message().find("of another model"), std::string::npos);
  }
  EXPECT_EQ(thrown_error([&] { read_result(path + "absent", kKey); }).code(), ErrorCode::kIo);
}

TEST(ResultFile, ARightDigestAloneIsNotEnough) {
  const std::string path = path_in_folder();
  const auto refused = [&](const std::string& head) {
    Digest digest;
    digest.add(head + "\n");
    std::ofstream(path, std::ios::binary) << digest.text() << "\n" << head << "\n";
    EXPECT_EQ(thrown_error([&] { read_result(path, kKey); }).code(), ErrorCode::kIo) << head;
  };
  const auto with_tensor = [&](const std::string& description) {
    return R"({"format": "tsquant layer result 1", "run": "0123456789abcdef", "step": "codes",)"
           R"( "layer": "layer.weight", "values": {}, "tensors": [)" +
           description + "]}";
  };
  for (const char* head : {"", "[]", "{}", "null", "{", R"({"format": 1})"}) refused(head);
  for (const char* tensor :
       {R"({"type": 6, "sizes": [3]})", R"({"type": 6, "sizes": [-3]})", R"({"type": 999, "sizes": []})",
        R"({"type": 6, "sizes": [4611686018427387904, 4]})", R"({"type": "x"})", "7"}) {
    refused(with_tensor(tensor));
  }
}

TEST(LayerState, ComesBackWhole) {
  WeightLayer layer;
  at::manual_seed(2);
  layer.bias = at::randn({4});
  layer.record.error_before = INFINITY;
  layer.record.error_after = 0.1;
  layer.record.damping = 1e-300;
  layer.record.algorithms = {"awq", "gptq"};
  layer.record.remarks = {"a remark"};
  CompressedWeight weight;
  weight.codes = at::randint(-4, 4, {4, 6}, at::kChar);
  weight.qparams.format = Format::kInt3;
  weight.qparams.formula = QParamsFormula::kNncfCompression;
  weight.qparams.scale = at::rand({4, 2});
  weight.qparams.zero_point = at::zeros({4, 2}, at::kLong);
  weight.qparams.codebook = {-0.1f, 0.3f};
  weight.qparams.quant_min = -4;
  weight.qparams.quant_max = 3;
  weight.qparams.group_size = 3;
  weight.qparams.group_axis = 1;
  layer.compressed = weight;
  WeightLayer other;
  restore(result_of(layer), other);
  EXPECT_TRUE(at::equal(other.bias, layer.bias));
  EXPECT_EQ(other.record.error_before, layer.record.error_before);
  EXPECT_EQ(other.record.error_after, layer.record.error_after);
  EXPECT_EQ(other.record.damping, layer.record.damping);
  EXPECT_EQ(other.record.algorithms, layer.record.algorithms);
  EXPECT_EQ(other.record.remarks, layer.record.remarks);
  ASSERT_TRUE(other.compressed);
  EXPECT_TRUE(at::equal(other.compressed->codes, weight.codes));
  const QParams &q = other.compressed->qparams, &expected = weight.qparams;
  EXPECT_TRUE(at::equal(q.scale, expected.scale));
  EXPECT_TRUE(at::equal(q.zero_point, expected.zero_point));
  EXPECT_FALSE(q.tensor_scale.defined());
  EXPECT_EQ(q.codebook, expected.codebook);
  EXPECT_EQ(q.format, expected.format);
  EXPECT_EQ(q.formula, expected.formula);
  EXPECT_EQ(q.quant_min, expected.quant_min);
  EXPECT_EQ(q.quant_max, expected.quant_max);
  EXPECT_EQ(q.dtype, expected.dtype);
  EXPECT_EQ(q.group_size, expected.group_size);
  EXPECT_EQ(q.group_axis, expected.group_axis);
}

}  // namespace
}  // namespace tsquant
