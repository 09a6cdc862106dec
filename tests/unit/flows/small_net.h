#pragma once

#include <gtest/gtest.h>
#include <tsquant/quantize.h>
#include <tsquant/tsquant.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "support/support.h"

namespace tsquant::testing {

/// Two convolutions with a residual connection, a layer norm and a linear layer.
inline torch::jit::Module net() {
  at::manual_seed(1);
  return define(
      R"(
def forward(self, x):
    y = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    z = torch.conv2d(y, self.w2, self.b2, [1, 1], [1, 1])
    p = torch.flatten(torch.adaptive_avg_pool2d(torch.relu(z + y), [1, 1]), 1)
    return torch.linear(torch.layer_norm(p, [8], self.g, self.g, 1e-5, False), self.w3, self.b3)
)",
      {{"w1", at::randn({8, 3, 3, 3})},
       {"b1", at::randn({8})},
       {"w2", at::randn({8, 8, 3, 3}) * 0.3},
       {"b2", at::randn({8})},
       {"g", at::rand({8}) + 0.5},
       {"w3", at::randn({10, 8})},
       {"b3", at::randn({10})}});
}

inline std::vector<at::Tensor> images(int64_t count = 6, int64_t batch = 1) {
  at::manual_seed(2);
  std::vector<at::Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(at::randn({batch, 3, 12, 12}) * (1 + 0.3 * i));
  return tensors;
}

inline QuantizedModel run(const QuantizeOptions& options = {}, int64_t batch = 1) {
  auto model = Model::from(net());
  return quantize(model, Dataset::from_rows({at::cat(images(6, batch))}, batch), options);
}

inline at::Tensor output(const QuantizedModel& result) { return result.model.run({{images()[1]}, {}}).toTensor(); }

template <typename Change>
QuantizeOptions with(const Change& change) {
  QuantizeOptions options;
  change(options, options.advanced_parameters);
  return options;
}

template <typename Change>
std::string message_of(const Change& change) {
  try {
    run(with(change));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

using Advanced = AdvancedQuantizationParameters;

inline const QuantizerRecord& first(const QuantizedModel& result, const std::string& kind) {
  for (const auto& record : result.report.quantizers) {
    if (record.kind == kind) return record;
  }
  throw std::out_of_range(kind);
}

}  // namespace tsquant::testing
