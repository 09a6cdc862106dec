#include "graph/op_table.h"

#include <gtest/gtest.h>

#include <set>

namespace tsquant {
namespace {

TEST(OpTable, RowsAreFoundByEveryFunctionName) {
  std::set<std::string> functions;
  for (const OpInfo& row : op_table()) {
    const bool depthwise = row.metatype.rfind("PTDepthwise", 0) == 0;
    for (const auto& function : row.functions) {
      EXPECT_EQ(&find_op(function, depthwise), &row) << function;
      if (!depthwise) {
        EXPECT_TRUE(functions.insert(function).second) << function << " is in two rows";
      }
    }
    EXPECT_EQ(&find_metatype(row.metatype), &row);
  }
}

TEST(OpTable, UnknownFunctionsGetTheUnknownRow) {
  for (const char* function : {"roll", "norm", "max_pool1d", "hardtanh_", "index", "upsample_bilinear2d", ""}) {
    EXPECT_EQ(find_op(function).metatype, "UnknownMetatype") << function;
  }
  EXPECT_EQ(find_metatype("PTNoSuchMetatype").metatype, "UnknownMetatype");
}

TEST(OpTable, DepthwiseConvolutionsHaveRowsOfTheirOwn) {
  EXPECT_EQ(find_op("conv2d").metatype, "PTConv2dMetatype");
  EXPECT_EQ(find_op("conv2d", true).metatype, "PTDepthwiseConv2dSubtype");
  EXPECT_EQ(find_op("conv2d", true).hw_ops, std::vector<std::string>{"DEPTHWISE_CONVOLUTION"});
  EXPECT_EQ(find_op("linear", true).metatype, "PTLinearMetatype");
}

TEST(OpTable, FactsOfSingleRows) {
  const OpInfo& conv = find_op("conv2d");
  EXPECT_EQ(conv.weight_ports, std::vector<int64_t>{1});
  EXPECT_EQ(conv.bias_port, 2);
  EXPECT_EQ(conv.output_channel_axis, 1);
  EXPECT_EQ(conv.default_trait, QuantizationTrait::kInputsQuantizable);
  EXPECT_EQ(find_op("linear").output_channel_axis, -1);
  EXPECT_EQ(find_op("addmm").ignored_input_ports, std::vector<int64_t>{0});
  EXPECT_EQ(find_op("scaled_dot_product_attention").target_input_ports, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(find_op("cat").default_trait, QuantizationTrait::kConcat);
  EXPECT_EQ(find_op("embedding").default_trait, QuantizationTrait::kOutputQuantizationAsWeights);
  EXPECT_EQ(find_op("max").hw_ops, (std::vector<std::string>{"MAXIMUM", "REDUCE_MAX"}));
  EXPECT_EQ(find_op("dropout_").default_trait, QuantizationTrait::kQuantizationAgnostic);
  EXPECT_EQ(find_metatype("PTAtenEmbeddingMetatype").weight_ports, std::vector<int64_t>{0});
  EXPECT_TRUE(find_metatype("PTAtenEmbeddingMetatype").hw_ops.empty());
}

}  // namespace
}  // namespace tsquant
