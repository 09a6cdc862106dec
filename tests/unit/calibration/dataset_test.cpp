#include "tsquant/dataset.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>

#include "tsquant/error.h"

namespace tsquant {
namespace {

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Dataset, FromTensors) {
  const auto data = Dataset::from_tensors({torch::ones({4, 2}), torch::zeros({4, 2})});
  EXPECT_EQ(data.length(), 2);
  EXPECT_EQ(data.batch_size(), 0);  // a list says nothing about batches
  EXPECT_EQ(data.get(1).args[0].toTensor().sum().item<float>(), 0);
  EXPECT_EQ(code_of([&] { data.get(2); }), ErrorCode::kDataset);
  EXPECT_EQ(Dataset::from_tensors({}).length(), 0);
}

TEST(Dataset, FromRowsCutsBatchesAndTransforms) {
  const auto images = torch::arange(10, at::kFloat).reshape({5, 2}), masks = torch::ones({5});
  const auto data =
      Dataset::from_rows({images, masks}, 2, [](std::vector<at::Tensor>& batch) { batch[0] = batch[0] * 10; });
  EXPECT_EQ(data.length(), 3);
  EXPECT_EQ(data.batch_size(), 2);
  const auto last = data.get(2);
  ASSERT_EQ(last.args.size(), 2u);
  EXPECT_TRUE(at::equal(last.args[0].toTensor(), torch::tensor({{80.0f, 90.0f}})));
  EXPECT_EQ(last.args[1].toTensor().size(0), 1);
  EXPECT_EQ(images[4][0].item<float>(), 8) << "the source must not change";
}

TEST(Dataset, FromRange) {
  const std::vector<int> numbers{3, 4};
  const auto data = Dataset::from_range(numbers, [](int n) {
    Sample sample;
    sample.kwargs["n"] = n;
    return sample;
  });
  EXPECT_EQ(data.length(), 2);
  EXPECT_EQ(data.get(1).kwargs.at("n").toInt(), 4);
}

TEST(Dataset, RefusesWhatMakesNoSense) {
  EXPECT_EQ(code_of([] { Dataset::from_rows({torch::ones({2})}, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { Dataset::from_rows({}, 1); }), ErrorCode::kDataset);
  EXPECT_EQ(code_of([] { Dataset::from_rows({torch::ones({2}), torch::ones({3})}, 1); }), ErrorCode::kDataset);
  EXPECT_EQ(code_of([] { Dataset::from_rows({torch::tensor(1.0f)}, 1); }), ErrorCode::kDataset);
  EXPECT_EQ(code_of([] { Dataset(-1, [](int64_t) { return Sample{}; }); }), ErrorCode::kInvalidArgument);
  const Dataset failing(1, [](int64_t) -> Sample { throw std::runtime_error("disk is gone"); });
  EXPECT_EQ(code_of([&] { failing.get(0); }), ErrorCode::kDataset);
}

}  // namespace
}  // namespace tsquant
