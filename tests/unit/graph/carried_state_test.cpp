#include "graph/carried_state.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace tsquant::testing {
namespace {

bool stateful(const std::string& body) {
  return is_stateful(Model::from(define("def forward(self, x):\n" + body, {{"h", at::zeros({4})}})));
}

TEST(Sequence, AssignmentAndWritingInPlaceAreState) {
  EXPECT_TRUE(stateful("    self.h = self.h + x\n    return self.h\n"));
  EXPECT_TRUE(stateful("    self.h.add_(x)\n    return self.h * 2\n"));
  EXPECT_TRUE(stateful("    if x.numel() > 2:\n        self.h[1:] = 0.5\n    return self.h + x\n"));
  EXPECT_FALSE(stateful("    return (self.h + x).add_(1)\n"));
}

TEST(Sequence, RecurrentOperatorsAreFound) {
  const auto cell = [](const std::string& name) {
    const auto model =
        Model::from(define("def forward(self, x):\n    return torch." + name + "(x, x, self.w, self.w)\n",
                           {{"w", at::zeros({name == "gru_cell" ? 12 : 4, 4})}}));
    return has_recurrent(GraphView(model));
  };
  EXPECT_TRUE(cell("gru_cell"));
  EXPECT_TRUE(cell("rnn_tanh_cell"));
  EXPECT_FALSE(has_recurrent(GraphView(Model::from(define("def forward(self, x):\n    return torch.tanh(x)\n")))));
}

}  // namespace
}  // namespace tsquant::testing
