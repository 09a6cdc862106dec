#include <gtest/gtest.h>

#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {
namespace {

std::vector<std::pair<std::string, at::Tensor>> weights() {
  at::manual_seed(3);
  return {{"w1", at::randn({4, 3, 1, 1})}, {"w2", at::randn({4, 7, 1, 1})}};
}

// A dense block as torchvision scripts it, and as a trace has it.
const char* kScripted = R"(
def forward(self, x):
    features = [x]
    for i in range(1):
        features.append(torch.relu(torch.conv2d(torch.cat(features, 1), self.w1)))
    new = torch.relu(torch.conv2d(torch.cat(features, 1), self.w2))
    features.append(new)
    return torch.cat(features, 1)
)";
const char* kTraced = R"(
def forward(self, x):
    a = torch.relu(torch.conv2d(torch.cat([x], 1), self.w1))
    b = torch.relu(torch.conv2d(torch.cat([x, a], 1), self.w2))
    return torch.cat([x, a, b], 1)
)";
const char* kStraight = R"(
def forward(self, x):
    features = [x]
    a = torch.relu(torch.conv2d(torch.cat(features, 1), self.w1))
    features.append(a)
    b = torch.relu(torch.conv2d(torch.cat(features, 1), self.w2))
    features.append(b)
    return torch.cat(features, 1)
)";

size_t quantized_edges(const char* source) {
  Model model = Model::from(define(source, weights()));
  run_passes(model);
  const GraphView view(model);
  return OpenVINOQuantizer().annotate(view).points.size();
}

TEST(ResolveContainers, DenseBlocksAreQuantizedAsTracedOnes) {
  EXPECT_GT(quantized_edges(kTraced), 0u);
  EXPECT_EQ(quantized_edges(kStraight), quantized_edges(kTraced));
}

TEST(ResolveContainers, ListsFilledInLoopsKeepTheirMeaning) {
  Model model = Model::from(define(kScripted, weights()));
  const Sample sample{{at::randn({1, 3, 2, 2})}, {}};
  const auto expected = model.run(sample);
  run_passes(model);
  expect_same(expected, model.run(sample));
}

torch::jit::Module selector(const c10::Dict<std::string, std::string>& names, const std::string& source) {
  torch::jit::Module module("__torch__.Selector" + std::to_string(reinterpret_cast<uintptr_t>(&names)));
  module.register_attribute("training", c10::BoolType::get(), false);
  module.register_attribute("names", c10::DictType::create(c10::StringType::get(), c10::StringType::get()),
                            c10::IValue(names));
  module.define(source);
  return module;
}

// torchvision's IntermediateLayerGetter: which features are kept is looked up in a dictionary of the module.
TEST(ResolveContainers, FeaturesThatAreKeptByNameAreTensorsAgain) {
  c10::Dict<std::string, std::string> names;
  names.insert("1", "low");
  Model model = Model::from(selector(names, R"(
def forward(self, x):
    out: Dict[str, Tensor] = {}
    x = torch.relu(x)
    if "0" in self.names:
        out[self.names["0"]] = x
    x = torch.neg(x)
    if "1" in self.names:
        out[self.names["1"]] = x
    return out["low"] + x
)"));
  const Sample sample{{at::randn({2, 3})}, {}};
  const auto expected = model.run(sample);
  run_passes(model);
  for (const char* kind : {"prim::If", "aten::dict", "prim::DictConstruct", "aten::_set_item", "aten::__getitem__"}) {
    EXPECT_EQ(count_kind(model, kind), 0u) << kind << "\n" << *model.graph();
  }
  expect_same(expected, model.run(sample));
}

TEST(ResolveContainers, DictionariesThatChangeAreNotFolded) {
  c10::Dict<std::string, std::string> names;
  names.insert("1", "low");
  Model model = Model::from(selector(names, R"(
def forward(self, x):
    self.names["2"] = "high"
    y = torch.relu(x)
    if "2" in self.names:
        y = torch.neg(x)
    return y
)"));
  run_passes(model);
  EXPECT_EQ(count_kind(model, "aten::__contains__"), 1u);
}

/// Runs the pass alone; the result computes the same, and a second run finds nothing.
bool resolves(const char* source) {
  Model model = Model::from(define(source));
  const Sample sample{{at::randn({2, 3})}, {}};
  const auto expected = model.run(sample);
  RewriteContext context{model, model.warnings()};
  const bool changed = resolve_containers(context);
  EXPECT_NO_THROW(model.graph()->lint());
  expect_same(expected, model.run(sample));
  EXPECT_FALSE(resolve_containers(context));
  if (changed) {
    EXPECT_EQ(count_kind(model, "aten::_set_item") + count_kind(model, "aten::append"), 0u) << *model.graph();
  }
  return changed;
}

TEST(ResolveContainers, DictionariesAreFollowedThroughEveryItem) {
  EXPECT_TRUE(resolves(R"(
def forward(self, x):
    d: Dict[str, Tensor] = {"low": x}
    d["high"] = torch.neg(x)
    d["low"] = d["high"] + d["low"]
    before = "third" in d
    d["third"] = d["low"]
    return d, before, len(d)
)"));
  EXPECT_TRUE(resolves(R"(
def forward(self, x):
    d: Dict[int, Tensor] = {}
    d[3] = torch.relu(x)
    return torch.cat(list(d.values()))
)"));
}

TEST(ResolveContainers, WhatIsNotKnownBeforehandStays) {
  EXPECT_FALSE(resolves(R"(
def forward(self, x):
    d: Dict[int, Tensor] = {}
    d[x.size(0)] = torch.relu(x)
    return d[x.size(0)]
)"));
  EXPECT_FALSE(resolves(R"(
def forward(self, x):
    d: Dict[str, Tensor] = {}
    if x.size(0) == 2:
        d["a"] = x
    return d
)"));
  // Lists of numbers are no business of a quantizer.
  EXPECT_FALSE(resolves(R"(
def forward(self, x):
    sizes = [x.size(0)]
    sizes.append(x.size(1))
    return x.reshape(sizes)
)"));
}

}  // namespace
}  // namespace tsquant::testing
