#pragma once

#include <torch/script.h>
#include <tsquant/quantize_with_accuracy_control.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/support.h"

namespace tsquant::testing {

/// Three convolutions and a linear layer, in which one channel between the first and the second convolution is
/// `outlier` times as large as the others. The second convolution divides it again: in float nothing changes, in 8 bits
/// the other channels of its input vanish.
inline torch::jit::Module damaged_net(double outlier) {
  at::manual_seed(3);
  auto w1 = at::randn({8, 3, 3, 3}) * 0.3, b1 = at::randn({8}) * 0.1, w2 = at::randn({8, 8, 3, 3}) * 0.2;
  w1[0] *= outlier;
  b1[0] *= outlier;
  w2.select(1, 0) /= outlier;
  return define(R"(
def forward(self, x):
    x = torch.relu(torch.conv2d(x, self.w1, self.b1, [1, 1], [1, 1]))
    x = torch.relu(torch.conv2d(x, self.w2, self.b2, [1, 1], [1, 1]))
    x = torch.relu(torch.conv2d(x, self.w3, self.b3, [1, 1], [1, 1]))
    return torch.linear(torch.flatten(torch.adaptive_avg_pool2d(x, [2, 2]), 1), self.w4, self.b4)
)",
                {{"w1", w1},
                 {"b1", b1},
                 {"w2", w2},
                 {"b2", at::randn({8}) * 0.1},
                 {"w3", at::randn({8, 8, 3, 3}) * 0.2},
                 {"b3", at::randn({8}) * 0.1},
                 {"w4", at::randn({10, 32})},
                 {"b4", at::randn({10}) * 0.1}});
}

/// The operator that reads the damaged channel.
inline const std::string kDamaged = "/conv2d/1";

inline Dataset pictures(int64_t count, uint64_t seed) {
  at::manual_seed(seed);
  std::vector<at::Tensor> tensors;
  // Every picture has the same range, so that calibration on other pictures clips none.
  for (int64_t i = 0; i < count; ++i) {
    tensors.push_back(at::rand({1, 3, 8, 8}) + at::randint(0, 2, {1, 3, 1, 1}).mul(2) - 1.5);
  }
  return Dataset::from_tensors(tensors);
}

/// Pictures about whose class the model is sure, so that the small errors of 8 bits do not change it.
inline Dataset clear_pictures(const Model& model, int64_t count, uint64_t seed) {
  const Dataset all = pictures(4 * count, seed);
  std::vector<std::pair<double, at::Tensor>> ranked;
  for (int64_t i = 0; i < all.length(); ++i) {
    const Sample sample = all.get(i);
    const auto best = std::get<0>(model.run(sample).toTensor().flatten().topk(2));
    ranked.emplace_back((best[0] - best[1]).item<double>(), sample.args[0].toTensor());
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<at::Tensor> kept;
  for (int64_t i = 0; i < count; ++i) kept.push_back(ranked[i].second);
  return Dataset::from_tensors(kept);
}

inline at::Tensor scores(ValidationModel& model, const Dataset& data, int64_t index) {
  return model(data.get(index)).toTensor();
}

/// The classes that the float network gives.
inline std::vector<int64_t> labels_of(const Model& model, const Dataset& data) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < data.length(); ++i) {
    labels.push_back(model.run(data.get(i)).toTensor().argmax().item<int64_t>());
  }
  return labels;
}

/// Share of right answers, with one value per sample.
inline ValidationFn accuracy(std::vector<int64_t> labels) {
  return [labels](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
    std::vector<double> right;
    double sum = 0;
    for (int64_t i : indices) {
      right.push_back(scores(model, data, i).argmax().item<int64_t>() == labels[i] ? 1 : 0);
      sum += right.back();
    }
    return ValidationResult(sum / static_cast<double>(indices.size()), right);
  };
}

/// The same with the outputs per sample.
inline ValidationFn accuracy_and_outputs(std::vector<int64_t> labels) {
  return [labels](ValidationModel& model, const Dataset& data, const std::vector<int64_t>& indices) {
    std::vector<std::vector<at::Tensor>> outputs;
    double right = 0;
    for (int64_t i : indices) {
      outputs.push_back({scores(model, data, i)});
      right += outputs.back()[0].argmax().item<int64_t>() == labels[i] ? 1 : 0;
    }
    return ValidationResult(right / static_cast<double>(indices.size()), outputs);
  };
}

}  // namespace tsquant::testing
