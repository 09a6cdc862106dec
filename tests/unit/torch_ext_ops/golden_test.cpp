// Values that PyTorch 2's definitions give on seven small inputs: parameters chosen from the data, per channel, per
// token and per group.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "call_op.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Json = nlohmann::json;

at::Tensor tensor_of(const Json& json) {
  static const std::map<std::string, at::ScalarType> kDtypes = {{"<f4", at::kFloat}, {"<f8", at::kDouble},
                                                                {"|i1", at::kChar},  {"|u1", at::kByte},
                                                                {"<i4", at::kInt},   {"<i8", at::kLong}};
  const auto data = json.at("data").get<std::vector<double>>();
  return at::tensor(data, at::kDouble)
      .to(kDtypes.at(json.at("dtype").get<std::string>()))
      .reshape(json.at("shape").get<std::vector<int64_t>>());
}

const Json& golden() {
  static const Json json = Json::parse(std::ifstream(data_file("decomposed_golden.json")));
  return json;
}

/// Calls body(case, input) for every case of an operator and checks that there are some.
template <class Body>
void each_case(const std::string& op, const Body& body) {
  int count = 0;
  for (const Json& c : golden().at("cases")) {
    if (c.at("op") != op) continue;
    SCOPED_TRACE(op + " of " + c.at("input").get<std::string>());
    body(c, tensor_of(golden().at("inputs").at(c.at("input").get<std::string>())));
    ++count;
  }
  EXPECT_GE(count, 7);
}

at::ScalarType dtype_of(const Json& c) { return c.at("dtype") == "uint8" ? at::kByte : at::kChar; }

void check_chosen(const std::string& op) {
  each_case(op, [&](const Json& c, const at::Tensor& x) {
    const int64_t low = c.at("quant_min"), high = c.at("quant_max");
    const auto dtype = dtype_of(c);
    const auto chosen = call(op, x, low, high, c.at("eps").get<double>(), dtype);
    const at::Tensor scale = chosen[0].toTensor(), zero_point = chosen[1].toTensor();
    EXPECT_EQ(scale.scalar_type(), at::kDouble);
    EXPECT_EQ(zero_point.scalar_type(), at::kLong);
    EXPECT_EQ(scale.sizes(), (std::vector<int64_t>{1}));
    EXPECT_EQ(scale.item<double>(), c.at("scale").get<double>());
    EXPECT_EQ(zero_point.item<int64_t>(), c.at("zero_point").get<int64_t>());
    const at::Tensor q = call_tensor("quantize_per_tensor.tensor", x, scale, zero_point, low, high, dtype);
    EXPECT_TRUE(identical(q, tensor_of(c.at("quantized"))));
    EXPECT_TRUE(identical(call_tensor("dequantize_per_tensor.tensor", q, scale, zero_point, low, high, dtype, none()),
                          tensor_of(c.at("dequantized"))));
  });
}

TEST(Golden, ChooseQparams) { check_chosen("choose_qparams.tensor"); }
TEST(Golden, ChooseQparamsSymmetric) { check_chosen("choose_qparams_symmetric.tensor"); }

TEST(Golden, PerChannel) {
  each_case("quantize_per_channel", [](const Json& c, const at::Tensor& x) {
    const int64_t low = c.at("quant_min"), high = c.at("quant_max"), axis = c.at("axis");
    const at::Tensor scales = at::tensor(c.at("scales").get<std::vector<double>>(), at::kDouble).to(at::kFloat);
    const at::Tensor zero_points = at::tensor(c.at("zero_points").get<std::vector<int64_t>>(), at::kLong);
    const at::Tensor q = call_tensor("quantize_per_channel", x, scales, zero_points, axis, low, high, dtype_of(c));
    EXPECT_TRUE(identical(q, tensor_of(c.at("quantized"))));
    EXPECT_TRUE(
        identical(call_tensor("dequantize_per_channel", q, scales, zero_points, axis, low, high, dtype_of(c), none()),
                  tensor_of(c.at("dequantized"))));
  });
}

TEST(Golden, PerToken) {
  each_case("choose_qparams_per_token", [](const Json& c, const at::Tensor& x) {
    const auto chosen = call("choose_qparams_per_token", x, at::kChar);
    EXPECT_TRUE(identical(chosen[0].toTensor(), tensor_of(c.at("scales"))));
    EXPECT_EQ(chosen[1].toTensor().abs().max().item<float>(), 0);
    const at::Tensor q =
        call_tensor("quantize_per_token", x, chosen[0].toTensor(), chosen[1].toTensor(), -128, 127, at::kChar);
    EXPECT_TRUE(identical(q, tensor_of(c.at("quantized"))));
  });
}

TEST(Golden, PerTokenAsymmetric) {
  each_case("choose_qparams_per_token_asymmetric", [](const Json& c, const at::Tensor& x) {
    for (const char* op : {"choose_qparams_per_token_asymmetric", "_choose_qparams_per_token_asymmetric_impl"}) {
      const auto chosen = call(op, x, at::kChar);
      EXPECT_TRUE(identical(chosen[0].toTensor(), tensor_of(c.at("scales"))));
      EXPECT_TRUE(identical(chosen[1].toTensor(), tensor_of(c.at("zero_points"))));
    }
    const at::Tensor scales = tensor_of(c.at("scales")), zero_points = tensor_of(c.at("zero_points"));
    const at::Tensor q = call_tensor("quantize_per_token", x, scales, zero_points, -128, 127, at::kChar);
    EXPECT_TRUE(identical(q, tensor_of(c.at("quantized"))));
    EXPECT_TRUE(identical(call_tensor("dequantize_per_token", q, scales, zero_points, -128, 127, at::kChar, at::kFloat),
                          tensor_of(c.at("dequantized"))));
  });
}

TEST(Golden, PerChannelGroup) {
  each_case("quantize_per_channel_group", [](const Json& c, const at::Tensor& x) {
    const at::Tensor scales = tensor_of(c.at("scales")), zero_points = tensor_of(c.at("zero_points"));
    const int64_t low = c.at("quant_min"), high = c.at("quant_max"), size = c.at("group_size");
    const at::Tensor q = call_tensor("quantize_per_channel_group", x, scales, zero_points, low, high, at::kChar, size);
    EXPECT_TRUE(identical(q, tensor_of(c.at("quantized"))));
    EXPECT_TRUE(identical(
        call_tensor("dequantize_per_channel_group", q, scales, zero_points, low, high, at::kChar, size, at::kFloat),
        tensor_of(c.at("dequantized"))));
  });
}

}  // namespace
}  // namespace tsquant::testing
