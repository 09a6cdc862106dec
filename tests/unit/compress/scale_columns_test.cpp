#include <gtest/gtest.h>

#include "small_lm.h"

namespace tsquant {
namespace {

using testing::int4_options;
using testing::token_data;

/// A norm, two layers that read it, and a product in front of a third one. Three channels after the norm, and of the
/// product, are `factor` times larger, and the columns that read them as much smaller.
Model gated_block(double factor) {
  at::manual_seed(8);
  const at::Tensor table = at::randn({48, 32}), gate = at::randn({64, 32}) / 6, up = at::randn({64, 32}) / 6,
                   down = at::randn({32, 64}) / 8, bias = at::randn({64}) / 10;
  at::Tensor wide = at::ones({32}), inner = at::ones({64});
  wide[3] = wide[11] = wide[20] = inner[5] = inner[6] = inner[50] = factor;
  return Model::from(testing::define(R"(
    def forward(self, ids: Tensor) -> Tensor:
      x = torch.embedding(self.table, ids)
      n = x * torch.rsqrt(torch.mean(x * x, -1, True)) * self.gain
      rows = n.size(0)
      h = torch.silu(torch.linear(n, self.gate)) * torch.linear(n, self.up, self.bias)
      return torch.linear(h, self.down) * (rows / rows)
  )",
                                     {{"table", table},
                                      {"gain", wide},
                                      {"gate", gate / wide},
                                      {"up", up / wide * inner.unsqueeze(1)},
                                      {"bias", bias * inner},
                                      {"down", down / inner}}));
}

CompressedModel best(Model model) {
  auto options = int4_options();
  options.quality = CompressionQuality::kBest;
  options.all_layers = true;
  options.dataset = token_data();
  return compress_weights(model, options);
}

double mean_error(const Report& report) {
  double sum = 0;
  int64_t count = 0;
  for (const auto& record : report.weights) {
    if (record.name == "table") continue;
    sum += record.error_after;
    ++count;
  }
  return sum / static_cast<double>(count);
}

TEST(ScaleColumns, OutlierChannelsCostNothing) {
  const auto plain = best(gated_block(1)), planted = best(gated_block(40));
  EXPECT_LT(mean_error(planted.report), 1.25 * mean_error(plain.report));
  for (const auto& record : planted.report.weights) {
    if (record.name == "table") continue;
    EXPECT_EQ(std::count(record.algorithms.begin(), record.algorithms.end(), "column scales"), 1) << record.name;
  }
  EXPECT_LT(testing::distance(gated_block(40), planted.model), 1.4 * testing::distance(gated_block(1), plain.model));
}

TEST(ScaleColumns, InputsWithOtherReadersKeepTheirScale) {
  at::manual_seed(8);
  at::Tensor gain = at::ones({32});
  gain[3] = gain[11] = 40;
  Model model =
      Model::from(testing::define(R"(
    def forward(self, ids: Tensor) -> Tensor:
      n = torch.embedding(self.table, ids) * self.gain
      return torch.linear(n, self.w) + n
  )",
                                  {{"table", at::randn({48, 32})}, {"gain", gain}, {"w", at::randn({32, 32}) / gain}}));
  const auto result = best(model);
  EXPECT_TRUE(at::equal(result.model.module().attr("gain").toTensor(), gain));
}

}  // namespace
}  // namespace tsquant
