#include "graph/mutation.h"

#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "support/support.h"
#include "tsquant/model.h"

namespace tsquant::testing {
namespace {

/// Whether the input of this model, which has a buffer, counts as written after the call has begun.
bool input_is_written(const std::string& body) {
  const Model model = Model::from(define("def forward(self, x):\n" + body, {{"buffer", at::zeros({1})}}));
  return MutationAnalysis(model.graph()).is_written_later(model.graph()->inputs()[1]);
}

// A counter of calls, a running mean.
TEST(MutationAnalysis, ABufferIsNotTheInput) {
  EXPECT_FALSE(input_is_written("    self.buffer.add_(1)\n    return torch.relu(x)\n"));
  EXPECT_FALSE(input_is_written("    self.buffer.mul_(0.9).add_(x.mean())\n    return torch.relu(x)\n"));
}

TEST(MutationAnalysis, TheInputMayHaveBecomeABuffer) {
  EXPECT_TRUE(input_is_written("    self.buffer = x\n    self.buffer.add_(1)\n    return torch.relu(x)\n"));
}

TEST(MutationAnalysis, WritesIntoTheInputCount) {
  EXPECT_TRUE(input_is_written("    y = torch.relu(x)\n    x.add_(1)\n    return y\n"));
  EXPECT_TRUE(input_is_written("    y = x.view(-1)\n    y.add_(1)\n    return torch.relu(x)\n"));
}

}  // namespace
}  // namespace tsquant::testing
