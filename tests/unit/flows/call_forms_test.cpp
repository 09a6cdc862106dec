#include <gtest/gtest.h>
#include <torch/torch.h>
#include <tsquant/data_loader.h>
#include <tsquant/error.h>
#include <tsquant/quantize.h>

#include <map>
#include <set>

#include "support/support.h"

namespace tsquant::testing::call_forms_test {
namespace {

/// One computation behind four signatures.
torch::jit::Module net(const std::string& signature, const std::string& unpack) {
  at::manual_seed(1);
  return define("def forward(self, " + signature + "):\n" + unpack +
                    "    return torch.linear(torch.relu(torch.linear(a, self.w1)) * b, self.w2)\n",
                {{"w1", at::randn({16, 6})}, {"w2", at::randn({4, 16})}});
}

struct Item {
  at::Tensor a, b;
  int64_t label = 0;
};

std::vector<Item> items() {
  at::manual_seed(2);
  std::vector<Item> result;
  for (int64_t i = 0; i < 5; ++i) result.push_back({at::randn({3, 6}) * (i + 1), at::rand({3, 1}) + 0.5, i});
  return result;
}

/// By place: "linear/0", or "linear/0 input 1".
using Scales = std::map<std::string, std::vector<double>>;

Scales scales(const torch::jit::Module& module, const Dataset& data) {
  auto model = Model::from(module);
  Scales result;
  for (const auto& record : quantize(model, data).report.quantizers) {
    result[record.node + " input " + std::to_string(record.input_port)] = record.scale;
  }
  return result;
}

/// Inputs that come out of a container have other names; otherwise the same tensors have the same scales.
void expect_same_but_names(const Scales& expected, const Scales& actual) {
  const auto scales_alone = [](const Scales& by_place) {
    std::multiset<std::vector<double>> all;
    for (const auto& [place, scale] : by_place) all.insert(scale);
    return all;
  };
  EXPECT_EQ(scales_alone(actual), scales_alone(expected));
}

TEST(CallForms, PositionalTuplesDictionariesAndKeywordsGiveTheSameStatistics) {
  const auto positional = net("a, b", "");
  const auto expected =
      scales(positional, Dataset(items(), [](const Item& item) { return std::make_pair(item.a, item.b); }));
  ASSERT_GE(expected.size(), 4u);
  EXPECT_EQ(scales(positional, Dataset(items(),
                                       [](const Item& item) {
                                         return std::map<std::string, at::Tensor>{{"b", item.b}, {"a", item.a}};
                                       })),
            expected);
  EXPECT_EQ(scales(positional, Dataset(items(),
                                       [](const Item& item) {
                                         return Sample{{item.a}, {{"b", item.b}}};
                                       })),
            expected);
  const auto tuple = net("pair: Tuple[Tensor, Tensor]", "    a, b = pair\n");
  expect_same_but_names(expected, scales(tuple, Dataset(items(), [](const Item& item) {
                                           return Sample{{c10::ivalue::Tuple::create({item.a, item.b})}, {}};
                                         })));
  const auto dictionary = net("named: Dict[str, Tensor]", "    a, b = named['a'], named['b']\n");
  expect_same_but_names(expected, scales(dictionary, Dataset(items(), [](const Item& item) {
                                           c10::Dict<std::string, at::Tensor> named;
                                           named.insert("a", item.a);
                                           named.insert("b", item.b);
                                           return Sample{{named}, {}};
                                         })));
  const auto list = net("both: List[Tensor]", "    a, b = both[0], both[1]\n");
  expect_same_but_names(expected, scales(list, Dataset(items(), [](const Item& item) {
                                           return std::vector<at::Tensor>{item.a, item.b};
                                         })));
}

/// The same items as a data set of torch::data.
class Items : public torch::data::datasets::Dataset<Items> {
 public:
  torch::data::Example<> get(size_t index) override { return {items_[index].a, items_[index].b}; }
  c10::optional<size_t> size() const override { return items_.size(); }

 private:
  std::vector<Item> items_ = items();
};

TEST(CallForms, DataLoadersCalibrateInOnePassAfterAnother) {
  const auto module = net("a, b", "");
  const auto call = [](const torch::data::Example<>& batch) { return std::make_pair(batch.data, batch.target); };
  const auto expected =
      scales(module, Dataset(items(), [](const Item& item) { return std::make_pair(item.a, item.b); }));
  for (const size_t workers : {0, 2}) {
    auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
        Items().map(torch::data::transforms::Stack<>()),
        torch::data::DataLoaderOptions().batch_size(1).workers(workers));
    const Dataset data(std::move(loader), [&](const torch::data::Example<>& batch) {
      return call({batch.data.squeeze(0), batch.target.squeeze(0)});
    });
    EXPECT_EQ(scales(module, data), expected);
  }
}

TEST(CallForms, ShuffledLoadersAreRefused) {
  torch::manual_seed(7);
  auto loader = torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
      Items().map(torch::data::transforms::Stack<>()), torch::data::DataLoaderOptions().batch_size(1));
  const auto data = from_data_loader(std::move(loader), [](const torch::data::Example<>& batch) {
    return std::make_pair(batch.data.squeeze(0), batch.target.squeeze(0));
  });
  try {
    scales(net("a, b", ""), data);
    FAIL() << "the second pass had another order";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataset);
    EXPECT_NE(error.advice().find("SequentialSampler"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tsquant::testing::call_forms_test
