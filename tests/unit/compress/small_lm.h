#pragma once

#include <ATen/ATen.h>
#include <torch/script.h>

#include <string>
#include <vector>

#include "graph/node_lists.h"
#include "support/support.h"
#include "tsquant/compress_weights.h"

namespace tsquant::testing {

/// Embedding, a gated block and a head over 48 tokens, with biases in the block.
inline Model small_lm() {
  at::manual_seed(3);
  const auto module = define(R"(
    def forward(self, ids: Tensor) -> Tensor:
      x = torch.embedding(self.table, ids)
      g = torch.silu(torch.linear(x, self.gate, self.gate_bias))
      u = torch.linear(x, self.up)
      y = torch.linear(g * u, self.down, self.down_bias)
      return torch.linear(x + y, self.head)
  )",
                             {{"table", at::randn({48, 32})},
                              {"gate", at::randn({64, 32}) / 6},
                              {"gate_bias", at::randn({64}) / 10},
                              {"up", at::randn({64, 32}) / 6},
                              {"down", at::randn({32, 64}) / 8},
                              {"down_bias", at::randn({32}) / 10},
                              {"head", at::randn({48, 32}) / 6}});
  return Model::from(module);
}

inline Dataset token_data(int64_t samples = 12) {
  at::manual_seed(5);
  std::vector<at::Tensor> ids;
  for (int64_t i = 0; i < samples; ++i) ids.push_back(at::randint(0, 48, {2, 16}, at::kLong));
  return Dataset::from_tensors(ids);
}

/// The float model's result on the first sample, and how far another one is from it.
inline double distance(const Model& a, const Model& b) {
  const Sample sample = token_data(1).get(0);
  const at::Tensor x = a.run(sample).toTensor(), y = b.run(sample).toTensor();
  return ((x - y).norm() / x.norm()).item<double>();
}

/// Operators and tensors, without what LibTorch numbers.
inline std::string ir_of(const Model& model) {
  std::string text;
  for (const auto* node : all_nodes(model.graph()->block())) text += std::string(node->kind().toQualString()) + "\n";
  for (const auto& tensor : model.module().named_attributes()) {
    if (tensor.value.isTensor()) text += tensor.name + " " + tensor.value.toTensor().toString() + "\n";
  }
  return text;
}

inline CompressWeightsOptions int4_options(int64_t group_size = 16) {
  CompressWeightsOptions options;
  options.mode = CompressWeightsMode::kInt4Sym;
  options.group_size = group_size;
  return options;
}

}  // namespace tsquant::testing
