#include "graph/free_graphs.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/support.h"

namespace tsquant::testing {
namespace {

int64_t functions_of(const Model& model) {
  const auto functions = model.module()._ivalue()->compilation_unit()->get_functions();
  return std::count_if(functions.begin(), functions.end(), [](const auto* function) { return function != nullptr; });
}

TEST(ReleaseCode, FreesTheMethodsOfACloneAndNothingElse) {
  const auto inner = define("def forward(self, x):\n  return torch.relu(x)\n");
  const auto model =
      Model::from(define("def forward(self, x):\n  return self.part.forward(x) + 1\n", {}, {{"part", inner}}));
  const Sample sample{{at::tensor({-1.0F, 2.0F})}, {}};
  const int64_t before = functions_of(model);
  auto clone = model.clone();
  const auto other = model.clone();
  const int64_t with_both = functions_of(model);
  EXPECT_GT(with_both, before);
  free_graphs(clone);
  EXPECT_EQ(functions_of(model) - before, (with_both - before) / 2);
  EXPECT_TRUE(model.run(sample).toTensor().equal(at::tensor({1.0F, 3.0F})));
  EXPECT_TRUE(other.clone().run(sample).toTensor().equal(at::tensor({1.0F, 3.0F})));
}

}  // namespace
}  // namespace tsquant::testing
