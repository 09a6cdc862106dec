#include "tsquant/load_quantizer.h"

#include <gtest/gtest.h>

#include "support/build_under_test.h"
#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant::testing {
namespace {

torch::jit::Module net() {
  at::manual_seed(1);
  return define(R"(
def forward(self, x):
    return torch.linear(torch.relu(torch.linear(x, self.w1)), self.w2) + x.sum()
)",
                {{"w1", at::randn({16, 8})}, {"w2", at::randn({4, 16})}});
}

/// A library of tests/plugins, or the example's.
std::string plugin(const std::string& name) { return std::string(TSQUANT_PLUGIN_DIR) + "/libtest_" + name + ".so"; }

std::string message_of(const std::string& path) {
  try {
    load_quantizer(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(LoadQuantizer, WorksWithTheDriver) {
  auto model = Model::from(net());
  const auto quantizer = load_quantizer(plugin("quantizer_plugin"));
  at::manual_seed(2);
  const auto result = quantize_pt2e(model, *quantizer, Dataset::from_tensors({at::randn({5, 8})}));
  ASSERT_EQ(result.report.quantizers.size(), 4u);
  for (const auto& record : result.report.nodes) {
    EXPECT_EQ(record.quantized, record.type == "linear") << record.name;
  }
}

TEST(LoadQuantizer, SaysWhatIsWrongWithALibrary) {
  EXPECT_NE(message_of("/nonexistent/q.so").find("cannot be opened"), std::string::npos);
  EXPECT_NE(message_of(lib_dir() + "/libtsquant_ops.so").find("registers no quantizer"), std::string::npos);
  EXPECT_NE(message_of(plugin("null_plugin")).find("factory returned no quantizer"), std::string::npos);
  EXPECT_NE(message_of(plugin("throwing_plugin")).find("constructor failed: settings.json is missing"),
            std::string::npos);
  EXPECT_NE(message_of(plugin("old_plugin")).find("version 0 of the quantizer interface"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing
