#include "io/map_module.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "io/file_mapping.h"
#include "io/torch_archive.h"
#include "support/files.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::bytes_of;
using testing::define;
using testing::temp_dir;
using torch::jit::Module;

constexpr int64_t kLarge = 4096;  // floats: a record of 16 KiB

Module load(const std::string& path, TensorValues values = TensorValues::kInFile) {
  return TorchArchive(path, model_archive()).load_module(values);
}

std::string saved(const Module& module, const std::string& name = "model.pt") {
  const std::string path = temp_dir() + "/" + name;
  module.save(path);
  return path;
}

at::Tensor numbers(int64_t count) { return at::arange(count, at::kFloat); }

Module sum_of_two() {
  return define("def forward(self, x):\n    return x + self.large + self.small\n",
                {{"large", numbers(kLarge)}, {"small", at::full({1}, 5.F)}});
}

at::Tensor run(Module module, int64_t count = kLarge) { return module.forward({at::ones({count})}).toTensor(); }

/// A model whose code holds a tensor as a constant: x + large + constant.
Module with_constant() {
  const auto module = define("def forward(self, x):\n    return x + self.large\n", {{"large", numbers(kLarge)}});
  const auto graph = module.get_method("forward").graph();
  const torch::jit::WithInsertPoint guard(graph->return_node());
  auto* constant = graph->insertConstant(numbers(kLarge) * 3);
  graph->return_node()->replaceInput(0, graph->insert(c10::aten::add, {graph->outputs()[0], constant}));
  return module;
}

/// The same archive with another writer's settings or other code.
std::string rewritten(const std::string& path, bool deflate, const std::string& from = "", const std::string& to = "") {
  TorchArchive archive(path, model_archive());
  const std::string result = temp_dir() + "/rewritten.pt";
  caffe2::serialize::PyTorchStreamWriter writer(result);
  for (const auto& name : archive.names()) {
    if (name == "version") continue;
    std::string bytes = archive.read(name);
    for (size_t at = 0; !from.empty() && name.rfind("code/", 0) == 0 && (at = bytes.find(from)) != std::string::npos;) {
      bytes.replace(at, from.size(), to);
    }
    writer.writeRecord(name, bytes.data(), bytes.size(), deflate);
  }
  writer.writeEndOfFile();
  return result;
}

TEST(MapModule, LargeTensorsStayInTheFile) {
  const auto path = saved(sum_of_two());
  const Module module = load(path);
  EXPECT_TRUE(is_mapped(module.attr("large").toTensor()));
  EXPECT_FALSE(is_mapped(module.attr("small").toTensor()));
  EXPECT_TRUE(at::equal(run(module), numbers(kLarge) + 6));
  EXPECT_FALSE(is_mapped(load(path, TensorValues::kInMemory).attr("large").toTensor()));
}

TEST(MapModule, ConstantsOfTheCodeToo) {
  const Module module = load(saved(with_constant()));
  EXPECT_TRUE(at::equal(run(module), numbers(kLarge) * 4 + 1));
  bool mapped = false;
  for (auto* node : module.get_method("forward").graph()->nodes()) {
    if (node->kind() == c10::prim::Constant && node->hasAttribute(c10::attr::value) &&
        node->kindOf(c10::attr::value) == torch::jit::AttributeKind::t) {
      mapped |= is_mapped(node->t(c10::attr::value));
    }
  }
  EXPECT_TRUE(mapped);
}

TEST(MapModule, TensorsInContainersAndSubmodules) {
  Module child("__torch__.Child");
  child.register_buffer("inner", numbers(kLarge) * 2);
  Module module("__torch__.Parent");
  c10::List<at::Tensor> list({numbers(kLarge), numbers(kLarge) + 1});
  module.register_attribute("list", c10::ListType::ofTensors(), list);
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("a", numbers(kLarge) + 3);
  module.register_attribute("dict", c10::DictType::create(c10::StringType::get(), c10::TensorType::get()), dict);
  module.register_module("child", child);
  module.define("def forward(self, x):\n    return x + self.list[1] + self.dict['a'] + self.child.inner\n");
  const Module loaded = load(saved(module));
  EXPECT_TRUE(at::equal(run(loaded), numbers(kLarge) * 4 + 5));
  EXPECT_TRUE(is_mapped(loaded.attr("list").toTensorVector()[0]));
  EXPECT_TRUE(is_mapped(loaded.attr("child").toModule().attr("inner").toTensor()));
}

TEST(MapModule, ItIsSavedWithTheSameBytes) {
  const auto path = saved(sum_of_two());
  const auto from_file = bytes_of(saved(load(path)));
  EXPECT_GT(from_file.size(), 4 * kLarge);
  EXPECT_TRUE(from_file == bytes_of(saved(load(path, TensorValues::kInMemory))));
}

TEST(MapModule, WritingIntoATensorChangesNeitherTheFileNorOthers) {
  auto module = sum_of_two();
  module.register_parameter("twin", module.attr("large").toTensor(), false);
  const auto path = saved(module);
  const auto before = bytes_of(path);
  const Module one = load(path), other = load(path);
  one.attr("large").toTensor().add_(1);
  EXPECT_TRUE(at::equal(one.attr("large").toTensor(), numbers(kLarge) + 1));
  EXPECT_TRUE(at::equal(other.attr("large").toTensor(), numbers(kLarge)));
  const Module in_memory = load(path, TensorValues::kInMemory);
  in_memory.attr("large").toTensor().add_(1);
  EXPECT_TRUE(at::equal(one.attr("twin").toTensor(), in_memory.attr("twin").toTensor()));
  EXPECT_EQ(bytes_of(path), before);
}

TEST(MapModule, PagesThatWereGivenBackAreReadAgain) {
  const Module module = load(saved(sum_of_two()));
  const auto large = module.attr("large").toTensor();
  EXPECT_TRUE(at::equal(large, numbers(kLarge)));
  give_pages_back(large);
  give_pages_back(at::ones({kLarge}));
  EXPECT_TRUE(at::equal(large, numbers(kLarge)));
}

TEST(MapModule, TheTensorOutlivesTheModule) {
  at::Tensor large;
  {
    const Module module = load(saved(sum_of_two()));
    large = module.attr("large").toTensor();
  }
  EXPECT_TRUE(at::equal(large, numbers(kLarge)));
}

TEST(MapModule, WhatComputesWhileItIsLoadedIsReadIntoMemory) {
  auto stateful = sum_of_two();
  stateful.define("def __getstate__(self):\n    return (self.large, self.small, self.training)\n");
  stateful.define(
      "def __setstate__(self, state: Tuple[Tensor, Tensor, bool]):\n    self.large = state[0] * 2\n    self.small = "
      "state[1]\n    self.training = state[2]\n");
  const Module loaded = load(saved(stateful));
  EXPECT_FALSE(is_mapped(loaded.attr("large").toTensor()));
  EXPECT_TRUE(at::equal(run(loaded), numbers(kLarge) * 2 + 6));

  auto quantized = sum_of_two();
  quantized.register_buffer("codes", at::quantize_per_channel(at::ones({2 * kLarge, 1}), at::ones({2 * kLarge}),
                                                              at::zeros({2 * kLarge}, at::kLong), 0, at::kQInt8));
  EXPECT_FALSE(is_mapped(load(saved(quantized, "quantized.pt")).attr("large").toTensor()));
}

TEST(MapModule, DeflatedRecordsAreReadIntoMemory) {
  const Module loaded = load(rewritten(saved(sum_of_two()), /*deflate=*/true));
  EXPECT_FALSE(is_mapped(loaded.attr("large").toTensor()));
  EXPECT_TRUE(at::equal(run(loaded), numbers(kLarge) + 6));
}

TEST(MapModule, ATensorThatIsNotFoundAgainSendsTheModelToTheOrdinaryLoader) {
  const auto path = saved(with_constant());
  const Module loaded = load(rewritten(path, /*deflate=*/false, "CONSTANTS.c0", "x"));
  EXPECT_TRUE(at::equal(run(loaded), numbers(kLarge) + 2)) << "the code does not name its constant CONSTANTS.c0";
  EXPECT_FALSE(is_mapped(loaded.attr("large").toTensor()));
}

TEST(MapModule, RecordsThatWereCutOffAreRefused) {
  const auto path = saved(sum_of_two());
  auto bytes = bytes_of(path);
  bytes.erase(bytes.size() / 2, 1000);
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_THROW(load(path), Error);
}

}  // namespace
}  // namespace tsquant
