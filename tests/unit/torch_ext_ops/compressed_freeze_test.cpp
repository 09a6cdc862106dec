// What becomes of compressed weights in a file: freezing must not turn them into floats.
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/irparser.h>
#include <torch/script.h>

#include <sstream>

#include "compressed_weight.h"

namespace tsquant::testing {
namespace {

/// A module with the tensors of the weight as attributes, and a forward of self and one input.
torch::jit::Module module_of(const StoredWeight& w, const std::string& ir) {
  torch::jit::Module module("compressed");
  module.register_buffer("weight", w.weight);
  module.register_buffer("scale", w.scale);
  module.register_buffer("zero_point", w.zero_point.toTensor());
  auto graph = std::make_shared<torch::jit::Graph>();
  torch::jit::parseIR(ir, graph.get());
  graph->inputs()[0]->setType(module.type());
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function("compressed.forward", graph));
  return module;
}

/// The start of a forward: the tensors and `none`.
const std::string kWeight = R"(graph(%self, %x : Tensor):
  %weight : Tensor = prim::GetAttr[name="weight"](%self)
  %scale : Tensor = prim::GetAttr[name="scale"](%self)
  %zero_point : Tensor = prim::GetAttr[name="zero_point"](%self)
  %none : NoneType = prim::Constant()
)";

torch::jit::Module frozen_and_loaded(torch::jit::Module module) {
  module.eval();
  std::stringstream file;
  torch::jit::freeze(module).save(file);
  return torch::jit::load(file);
}

size_t count_of(const torch::jit::Module& module, const std::string& kind) {
  size_t count = 0;
  for (const auto* node : module.get_method("forward").graph()->nodes()) {
    count += kind == node->kind().toQualString() ? 1 : 0;
  }
  return count;
}

struct Constants {
  int64_t bytes = 0, float_elements = 0;
};
Constants constants_of(const torch::jit::Module& module) {
  Constants found;
  for (const auto* node : module.get_method("forward").graph()->nodes()) {
    if (node->kind() != c10::prim::Constant || !node->hasAttribute(c10::attr::value)) continue;
    if (node->kindOf(c10::attr::value) != torch::jit::AttributeKind::t) continue;
    const at::Tensor& x = node->t(c10::attr::value);
    (x.scalar_type() == at::kByte ? found.bytes : found.float_elements) += x.numel();
  }
  return found;
}

class CompressedFiles : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(9); }

  /// Codes and zero points are there as bytes, and of floats only the scales.
  void expect_packed(const torch::jit::Module& module, const char* kind) const {
    EXPECT_EQ(count_of(module, kind), 1u);
    const Constants constants = constants_of(module);
    EXPECT_EQ(constants.bytes, w.weight.numel() + w.zero_point.toTensor().numel());
    EXPECT_EQ(constants.float_elements, w.scale.numel());
  }

  StoredWeight w = store(row_of(Format::kInt4), 6, 64, {true, 32});
};

TEST_F(CompressedFiles, FreezingKeepsTheLinearLayerPacked) {
  auto module = frozen_and_loaded(module_of(w, kWeight + R"(
  %format : str = prim::Constant[value="int4"]()
  %in_features : int = prim::Constant[value=64]()
  %group_size : int = prim::Constant[value=32]()
  %y : Tensor = tsquant::linear_compressed(%x, %weight, %scale, %zero_point, %none, %format, %in_features, %group_size, %none, %none)
  return (%y))"));
  expect_packed(module, "tsquant::linear_compressed");
  const auto x = at::randn({3, 64});
  EXPECT_TRUE(identical(module.forward({x}).toTensor(), linear(x, w)));
}

TEST_F(CompressedFiles, FreezingKeepsTheEmbeddingPacked) {
  auto module = frozen_and_loaded(module_of(w, kWeight + R"(
  %format : str = prim::Constant[value="int4"]()
  %embedding_dim : int = prim::Constant[value=64]()
  %group_size : int = prim::Constant[value=32]()
  %dtype : int = prim::Constant[value=6]()
  %y : Tensor = tsquant::embedding_compressed(%x, %weight, %scale, %zero_point, %format, %embedding_dim, %group_size, %dtype, %none, %none)
  return (%y))"));
  expect_packed(module, "tsquant::embedding_compressed");
  const auto indices = at::tensor({2, 5}, at::kLong);
  EXPECT_TRUE(identical(module.forward({indices}).toTensor(), embedding(indices, w)));
}

TEST_F(CompressedFiles, DecompressionLikeAnInputStaysAndThatOfADtypeIsFolded) {
  const std::string arguments = "%weight, %scale, %zero_point, %format, %size, %group_size, ";
  const std::string decompress = kWeight + R"(
  %format : str = prim::Constant[value="int4"]()
  %size : int[] = prim::Constant[value=[6, 64]]()
  %group_size : int = prim::Constant[value=32]()
  %dtype : int = prim::Constant[value=6]()
  %values : Tensor = tsquant::decompress()";
  const std::string use = R"(
  %t : Tensor = aten::t(%values)
  %y : Tensor = aten::matmul(%x, %t)
  return (%y))";
  auto like = frozen_and_loaded(module_of(w, decompress + "%x, " + arguments + "%none, %none)" + use));
  expect_packed(like, "tsquant::decompress");
  auto folded = frozen_and_loaded(module_of(w, decompress + arguments + "%dtype, %none, %none)" + use));
  EXPECT_EQ(count_of(folded, "tsquant::decompress"), 0u);
  EXPECT_EQ(constants_of(folded).float_elements, 6 * 64);
  const auto x = at::randn({3, 64});
  EXPECT_TRUE(identical(like.forward({x}).toTensor(), folded.forward({x}).toTensor()));
}

}  // namespace
}  // namespace tsquant::testing
