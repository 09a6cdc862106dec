#include <gtest/gtest.h>
#include <torch/torch.h>

#include <list>
#include <set>
#include <thread>

#include "tsquant/data_loader.h"
#include "tsquant/dataset.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

template <typename Call>
std::string message_of(ErrorCode code, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

float first_value(const Sample& sample) { return sample.args.at(0).toTensor().flatten()[0].item<float>(); }

std::vector<float> first_values(const DataRange<Sample>& samples) {
  std::vector<float> values;
  for (const Sample& sample : samples) values.push_back(first_value(sample));
  return values;
}

/// Row i holds the number i, target 10 * i. Counts how many rows were read.
class Rows : public torch::data::datasets::Dataset<Rows> {
 public:
  explicit Rows(int64_t size, std::shared_ptr<int64_t> reads = std::make_shared<int64_t>())
      : size_(size), reads_(reads) {}
  torch::data::Example<> get(size_t index) override {
    ++*reads_;
    const auto value = static_cast<float>(index);
    return {torch::full({2}, value), torch::full({1}, 10 * value)};
  }
  c10::optional<size_t> size() const override { return static_cast<size_t>(size_); }

 private:
  int64_t size_;
  std::shared_ptr<int64_t> reads_;
};

template <typename Sampler = torch::data::samplers::SequentialSampler>
auto loader_of(Rows rows, size_t batch_size, size_t workers = 0) {
  return torch::data::make_data_loader<Sampler>(
      rows.map(torch::data::transforms::Stack<>()),
      torch::data::DataLoaderOptions().batch_size(batch_size).workers(workers));
}

TEST(DataSource, RangesOfEveryKindGiveItemsAndSamples) {
  const std::vector<std::pair<at::Tensor, int>> labelled{{torch::full({2}, 1.f), 7}, {torch::full({2}, 2.f), 8}};
  const auto image = [](const std::pair<at::Tensor, int>& item) { return item.first; };
  const std::list<std::pair<at::Tensor, int>> linked(labelled.begin(), labelled.end());
  const auto shared = std::make_shared<std::vector<std::pair<at::Tensor, int>>>(labelled);
  for (const auto& data : {Dataset(labelled, image), Dataset(linked, image), Dataset(shared, image),
                           Dataset::from_range(labelled, image)}) {
    EXPECT_EQ(data.get_length(), 2);
    EXPECT_EQ(data.length(), 2);
    EXPECT_FALSE(data.get_batch_size().has_value());
    EXPECT_EQ(first_values(data.get_inference_data()), (std::vector<float>{1, 2}));
    EXPECT_EQ(first_value(data.get(1)), 2);
    std::vector<int> labels;
    for (const auto& item : data.get_data<std::pair<at::Tensor, int>>()) labels.push_back(item.second);
    EXPECT_EQ(labels, (std::vector<int>{7, 8})) << "get_data leaves the transform function out";
  }
  shared->at(0).first = torch::full({2}, 5.f);
  EXPECT_EQ(first_value(Dataset(shared, image).get(0)), 5) << "a shared source is not copied";
}

TEST(DataSource, IndicesSelectInTheirOrderAndNothingElseIsRead) {
  auto reads = std::make_shared<std::vector<int>>();
  const Dataset data(std::vector<int>{10, 11, 12, 13}, [reads](int item) {
    reads->push_back(item);
    return torch::full({1}, static_cast<float>(item));
  });
  const std::vector<int64_t> indices{3, 1};
  const auto range = data.get_inference_data(indices);
  EXPECT_TRUE(reads->empty()) << "items are read while iterating";
  EXPECT_EQ(first_values(range), (std::vector<float>{13, 11}));
  EXPECT_EQ(*reads, (std::vector<int>{13, 11}));
  std::vector<int> items;
  for (const std::any& item : data.get_data(indices)) items.push_back(std::any_cast<int>(item));
  EXPECT_EQ(items, (std::vector<int>{13, 11}));
  EXPECT_EQ(reads->size(), 2u);
  EXPECT_TRUE(first_values(data.get_inference_data(std::vector<int64_t>{})).empty());
  EXPECT_EQ(first_values(data.get_inference_data({{2}})), (std::vector<float>{12}));
  EXPECT_EQ(first_values(data.get_inference_data({2})), (std::vector<float>{12}));
  EXPECT_EQ(first_values(data.get_inference_data({{2, 0}})), (std::vector<float>{12, 10}));
  items.clear();
  for (const int item : data.get_data<int>({{1}})) items.push_back(item);
  for (const int item : data.get_data<int>({3, 0})) items.push_back(item);
  EXPECT_EQ(items, (std::vector<int>{11, 13, 10}));
}

TEST(DataSource, WhatAnItemBecomes) {
  const auto a = torch::ones({1}), b = torch::zeros({1});
  const auto sample_of = [](auto item) { return Dataset(std::vector<decltype(item)>{item}).get(0); };
  EXPECT_EQ(sample_of(a).args.size(), 1u);
  EXPECT_EQ(sample_of(std::make_pair(a, int64_t{16000})).args.at(1).toInt(), 16000);
  EXPECT_EQ(sample_of(std::make_tuple(a, b, 0.5)).args.at(2).toDouble(), 0.5);
  EXPECT_EQ(sample_of(std::vector<c10::IValue>{a, b}).args.size(), 2u);
  EXPECT_EQ(sample_of(c10::IValue(c10::ivalue::Tuple::create({a, b}))).args.size(), 2u);
  const auto list = sample_of(std::vector<at::Tensor>{a, b});
  ASSERT_EQ(list.args.size(), 1u) << "a list is one argument";
  EXPECT_EQ(list.args[0].toTensorVector().size(), 2u);
  const auto named = sample_of(std::map<std::string, at::Tensor>{{"x", a}, {"mask", b}});
  EXPECT_TRUE(named.args.empty());
  EXPECT_TRUE(named.kwargs.at("mask").toTensor().is_same(b));
  c10::impl::GenericDict words(c10::StringType::get(), c10::TensorType::get());
  words.insert("x", a);
  EXPECT_TRUE(sample_of(c10::IValue(words)).kwargs.at("x").toTensor().is_same(a));
  c10::impl::GenericDict numbers(c10::IntType::get(), c10::TensorType::get());
  numbers.insert(1, a);
  EXPECT_TRUE(sample_of(c10::IValue(numbers)).args.at(0).isGenericDict());
  Sample both{{a}, {{"mask", b}}};
  EXPECT_EQ(sample_of(both).kwargs.size(), 1u);
}

TEST(DataSource, LoadersAreReadAgainInOrder) {
  for (size_t workers : {0, 2}) {
    const Dataset data(loader_of(Rows(10), 4, workers), [](const torch::data::Example<>& batch) { return batch.data; });
    EXPECT_EQ(data.get_batch_size(), 4);
    EXPECT_FALSE(data.get_length().has_value()) << "a loader does not tell";
    EXPECT_EQ(first_value(data.get(1)), 4);
    EXPECT_EQ(first_value(data.get(0)), 0) << "an earlier batch starts a new pass, with " << workers << " workers";
    EXPECT_EQ(first_values(data.get_inference_data()), (std::vector<float>{0, 4, 8}));
    EXPECT_EQ(data.get(2).args[0].toTensor().size(0), 2) << "the last batch is smaller";
    EXPECT_EQ(data.length(), 3);
    EXPECT_EQ(data.get_length(), 3) << "known once the end was seen";
    EXPECT_EQ(first_values(data.get_inference_data(std::vector<int64_t>{2, 0})), (std::vector<float>{8, 0}));
    float targets = 0;
    for (const auto& batch : data.get_data<torch::data::Example<>>()) targets += batch.target[0].item<float>();
    EXPECT_EQ(targets, 120);
  }
}

TEST(DataSource, LoadersAreReadNoFurtherThanAsked) {
  auto reads = std::make_shared<int64_t>();
  const auto data = from_data_loader(loader_of(Rows(1000, reads), 10));
  EXPECT_EQ(data.count(3), 3);
  EXPECT_EQ(*reads, 30);
  EXPECT_EQ(first_value(data.get(2)), 20);
  EXPECT_EQ(*reads, 30) << "the present item is kept";
  const auto sized = from_data_loader(loader_of(Rows(1000, reads), 10), ExampleData(), 100);
  EXPECT_EQ(sized.length(), 100);
  EXPECT_EQ(*reads, 30);
}

TEST(DataSource, AFunctionThatMakesLoaders) {
  int made = 0;
  const auto data = from_data_loader(
      [&made] {
        ++made;
        return loader_of(Rows(6), 2, 1);
      },
      [](const torch::data::Example<>& batch) { return std::make_pair(batch.data, batch.target); });
  EXPECT_EQ(data.get_batch_size(), 2);
  EXPECT_EQ(first_value(data.get(1)), 2);
  EXPECT_EQ(data.get(0).args.at(1).toTensor()[1].item<float>(), 10);
  EXPECT_EQ(made, 3) << "one for the batch size, two passes";
}

TEST(DataSource, ALoaderThatShufflesBetweenPassesIsRefused) {
  torch::manual_seed(3);
  const auto data = from_data_loader(loader_of<torch::data::samplers::RandomSampler>(Rows(100), 1));
  data.get(1);
  data.get(0);
  const auto message = message_of(ErrorCode::kDataset, [&] { data.get(1); });
  EXPECT_NE(message.find("sample 1 is not the one that it was in an earlier pass"), std::string::npos) << message;
  EXPECT_NE(message.find("SequentialSampler"), std::string::npos) << message;
}

/// A pass over the numbers from 0 to `size` - 1.
class Numbers : public ForwardSource::Pass {
 public:
  explicit Numbers(int64_t size) : size_(size) {}
  bool next(std::any& item) override {
    if (next_ == size_) return false;
    if (next_ == 13) throw std::runtime_error("unlucky");
    item = torch::full({1}, static_cast<float>(next_++));
    return true;
  }

 private:
  int64_t size_, next_ = 0;
};

Dataset numbers_of(std::vector<int64_t> sizes, c10::optional<int64_t> length = c10::nullopt) {
  auto pass = std::make_shared<size_t>();
  return Dataset(std::make_shared<ForwardSource>(
      [=] { return std::make_unique<Numbers>(sizes.at((*pass)++)); },
      [](const std::any& item) { return to_sample(std::any_cast<at::Tensor>(item)); }, length, 1));
}

TEST(DataSource, ASourceThatEndsEarlyIsRefused) {
  const auto shrinking = numbers_of({5, 3});
  shrinking.get(4);
  EXPECT_EQ(first_value(shrinking.get(1)), 1);
  const auto message = message_of(ErrorCode::kDataset, [&] { shrinking.get(4); });
  EXPECT_NE(message.find("ended after 3 items, but an earlier pass had at least 5"), std::string::npos) << message;
  const auto announced = message_of(ErrorCode::kDataset, [] { numbers_of({3}, 4).get(3); });
  EXPECT_NE(announced.find("ended after 3 items, but its length is 4"), std::string::npos) << announced;
}

TEST(DataSource, WhatASourceThrowsNamesTheSample) {
  const auto data = numbers_of({20, 20, 20});
  const auto message = message_of(ErrorCode::kDataset, [&] { data.get(15); });
  EXPECT_NE(message.find("sample 15 could not be produced: unlucky"), std::string::npos) << message;
  EXPECT_EQ(first_value(data.get(12)), 12) << "items before it can still be read";
  const Dataset odd(std::vector<int>{1}, [](int) -> at::Tensor { throw std::out_of_range("no such file"); });
  EXPECT_NE(message_of(ErrorCode::kDataset, [&] { odd.get(0); }).find("no such file"), std::string::npos);
}

TEST(DataSource, SeveralThreadsGetTheirOwnSamples) {
  const auto data = from_data_loader(loader_of(Rows(40), 1));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&data, &wrong, t] {
      for (int64_t i = t; i < 40; i += 3) wrong += first_value(data.get(i)) != static_cast<float>(i);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(DataSource, WrongUseIsExplained) {
  const Dataset data(std::vector<at::Tensor>{torch::ones({1})});
  const auto outside =
      message_of(ErrorCode::kDataset, [&] { first_values(data.get_inference_data(std::vector<int64_t>{1})); });
  EXPECT_NE(outside.find("sample 1 of a data set with 1 samples"), std::string::npos) << outside;
  message_of(ErrorCode::kDataset, [&] { data.get(-1); });
  const auto type = message_of(ErrorCode::kInvalidArgument, [&] { *data.get_data<int>().begin(); });
  EXPECT_NE(type.find("the items are of type at::Tensor, not int"), std::string::npos) << type;
  const auto null = message_of(ErrorCode::kInvalidArgument, [] { Dataset(std::shared_ptr<std::vector<int>>()); });
  EXPECT_NE(null.find("null"), std::string::npos) << null;
  message_of(ErrorCode::kInvalidArgument, [] { Dataset(std::shared_ptr<DataSource>()); });
  message_of(ErrorCode::kInvalidArgument, [] { numbers_of({1}, -1); });
}

}  // namespace
}  // namespace tsquant
