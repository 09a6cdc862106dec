// Tied weights: an embedding and a head that are one tensor under two names.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "small_lm.h"

namespace tsquant::testing {
namespace {

/// Both readers name the table, as in a traced graph, or each its own name of it, as in a scripted one.
Model tied_lm(bool traced) {
  at::manual_seed(4);
  const at::Tensor table = at::randn({48, 32}) / 6;
  const std::string source = std::string(R"(
    def forward(self, ids: Tensor) -> Tensor:
      x = torch.embedding(self.table, ids)
      y = torch.relu(torch.linear(x, self.block))
      return torch.linear(x + y, self.)") +
                             (traced ? "table" : "head") + ")\n";
  return Model::from(define(source, {{"table", table}, {"block", at::randn({32, 32}) / 6}, {"head", table}}));
}

CompressedModel compress_tied(bool traced, const CompressWeightsOptions& options) {
  Model model = tied_lm(traced);
  return compress_weights(model, options);
}

int64_t values_in(const Model& model, const char* name) { return model.module().attr(name).toTensor().numel(); }

constexpr int64_t kFloatBytes = 4 * (48 * 32 + 32 * 32);

TEST(TiedWeights, AnUnreadNameOfACompressedWeightIsDropped) {
  const auto result = compress_tied(/*traced=*/true, {});
  EXPECT_EQ(result.report.float_bytes, kFloatBytes);
  EXPECT_LT(result.report.quantized_bytes, kFloatBytes * 3 / 10);
  EXPECT_EQ(values_in(result.model, "head"), 0);
  EXPECT_LT(distance(tied_lm(true), result.model), 0.02);
}

TEST(TiedWeights, AnUnreadNameOfAWeightThatStaysKeepsItsValues) {
  CompressWeightsOptions options;
  options.ignored_scope.names = {"table"};
  const auto result = compress_tied(/*traced=*/true, options);
  EXPECT_EQ(values_in(result.model, "head"), 48 * 32);
  EXPECT_TRUE(
      result.model.module().attr("head").toTensor().is_alias_of(result.model.module().attr("table").toTensor()));
}

TEST(TiedWeights, TwoReadNamesAreCodedAndStoredOnce) {
  const auto traced = compress_tied(/*traced=*/true, {}), scripted = compress_tied(/*traced=*/false, {});
  EXPECT_EQ(scripted.report.weights.size(), 2U);
  EXPECT_EQ(scripted.report.quantized_bytes, traced.report.quantized_bytes);
  EXPECT_EQ(values_in(scripted.model, "head"), 0);
  EXPECT_EQ(distance(traced.model, scripted.model), 0);
}

TEST(TiedWeights, ALoweredModelHasTheTableOnce) {
  CompressWeightsOptions options;
  options.form = OutputForm::kLowered;
  const auto traced = compress_tied(/*traced=*/true, options), scripted = compress_tied(/*traced=*/false, options);
  EXPECT_EQ(scripted.report.quantized_bytes, traced.report.quantized_bytes);
  EXPECT_LT(scripted.report.quantized_bytes, kFloatBytes * 3 / 10);
  EXPECT_LT(distance(tied_lm(false), scripted.model), 0.03);
}

TEST(TiedWeights, APlanCountsTheSharedTensorOnce) {
  for (const bool traced : {true, false}) {
    CompressWeightsOptions options;
    const auto real = compress_tied(traced, options);
    options.dry_run = true;
    EXPECT_EQ(compress_tied(traced, options).report.quantized_bytes, real.report.quantized_bytes);
  }
}

/// Overlapping weights, of which none is the other.
TEST(TiedWeights, APlanCountsSharedMemoryOnce) {
  const at::Tensor memory = at::randn({48, 32});
  Model model = Model::from(
      define("def forward(self, x):\n    return torch.linear(x, self.all).sum() + torch.linear(x, self.most).sum()\n",
             {{"all", memory}, {"most", memory.narrow(0, 0, 40)}}));
  CompressWeightsOptions options;
  options.dry_run = true;
  const auto plan = compress_weights(model, options).report;
  EXPECT_EQ(plan.float_bytes, 4 * 48 * 32);
  int64_t codes = 0;
  for (const auto& record : plan.weights) codes += record.compressed_bytes;
  EXPECT_EQ(plan.weights.size(), 2U);
  EXPECT_EQ(plan.quantized_bytes, codes);
}

TEST(TiedWeights, ATargetOfBytesIsMetFromBelow) {
  auto options = int4_options();
  options.all_layers = true;
  options.dataset = token_data();
  options.target_size = 0.25;
  const auto report = compress_tied(/*traced=*/false, options).report;
  EXPECT_LE(report.quantized_bytes, kFloatBytes / 4);
  EXPECT_GT(report.quantized_bytes, kFloatBytes / 5);
}

}  // namespace
}  // namespace tsquant::testing
