#include "compression/input_moments.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "compression/row_panels.h"
#include "run/single_thread_guard.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr int64_t kMomentRows = 2048, kMomentColumns = 512;

int64_t moment_columns(int64_t block, int64_t channels) {
  return std::min(kMomentColumns, channels - block * kMomentColumns);
}

/// Adds the blocks of x^T x that stand in the same rows as this diagonal block, up to that one.
void add_product(const at::Tensor& rows, int64_t block, at::Tensor& sum) {
  const int64_t first = block * kMomentColumns, count = moment_columns(block, rows.size(1));
  const auto product = at::mm(rows.narrow(1, first, count).t(), rows.narrow(1, 0, first + count));
  const auto* from = product.data_ptr<float>();
  auto* to = sum.data_ptr<double>();
  for (int64_t i = 0; i < product.numel(); ++i) to[i] += from[i];
}

at::Tensor moment_sum(const at::Tensor& rows, int64_t block) {
  return rows.narrow(1, block * kMomentColumns, moment_columns(block, rows.size(1))).to(at::kDouble).sum(0);
}

/// The largest blocks first, so that threads end at about the same time.
void for_each_block(size_t blocks, const std::function<void(int64_t)>& work) {
  const auto count = static_cast<int64_t>(blocks);
  for_each_panel(count, [&](int64_t i) { work(count - 1 - i); });
}

[[noreturn]] void refuse_channels(int64_t given, int64_t channels) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("inputs of {} channels after inputs of {} channels", given, channels), "InputMoments",
              "collect the inputs of one layer");
}

}  // namespace

void InputMoments::start(int64_t channels) {
  sum_ = at::zeros({channels}, at::kDouble);
  pending_ = at::empty({kMomentRows, channels}, at::kFloat);
  for (int64_t block = 0; block < panels_of(channels, kMomentColumns); ++block) {
    const int64_t count = moment_columns(block, channels);
    blocks_.push_back(at::zeros({count, block * kMomentColumns + count}, at::kDouble));
  }
}

void InputMoments::add(const at::Tensor& inputs) {
  if (inputs.dim() == 0 || !inputs.is_floating_point() || inputs.size(-1) == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs of type {} and shape [{}]", c10::toString(inputs.scalar_type()),
                            fmt::join(inputs.sizes(), ", ")),
                "InputMoments", "give floating-point rows of channels");
  }
  if (!sum_.defined()) start(inputs.size(-1));
  if (inputs.size(-1) != channels()) refuse_channels(inputs.size(-1), channels());
  add_rows(inputs.detach().reshape({-1, channels()}));
}

void InputMoments::add_rows(const at::Tensor& rows) {
  for (int64_t first = 0; first < rows.size(0);) {
    const int64_t count = std::min(kMomentRows - pending_rows_, rows.size(0) - first);
    pending_.narrow(0, pending_rows_, count).copy_(rows.narrow(0, first, count));
    pending_rows_ += count;
    first += count;
    if (pending_rows_ == kMomentRows) multiply_pending();
  }
  rows_ += rows.size(0);
}

void InputMoments::multiply_pending() {
  if (pending_rows_ == 0) return;
  const auto rows = pending();
  for_each_block(blocks_.size(), [&](int64_t block) {
    add_product(rows, block, blocks_[block]);
    sum_.narrow(0, block * kMomentColumns, moment_columns(block, channels())).add_(moment_sum(rows, block));
  });
  pending_rows_ = 0;
}

void InputMoments::merge(const InputMoments& other) {
  if (!other.sum_.defined()) return;
  if (!sum_.defined()) start(other.channels());
  if (other.channels() != channels()) refuse_channels(other.channels(), channels());
  multiply_pending();
  sum_.add_(other.sum_);
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].add_(other.blocks_[i]);
  rows_ += other.rows_ - other.pending_rows_;
  add_rows(other.pending());
}

void InputMoments::check_usable() const {
  if (rows_ == 0) {
    throw Error(ErrorCode::kCalibration, "a layer got no inputs", "", "give calibration data that reaches it");
  }
  if (at::isfinite(sum_).all().item<bool>() && at::isfinite(pending()).all().item<bool>()) return;
  throw Error(ErrorCode::kCalibration, "the inputs of a layer have NaN or infinite values", "",
              "check the calibration data and the model before this layer, or leave the layer out");
}

at::Tensor InputMoments::hessian() const {
  check_usable();
  const auto result = at::empty({channels(), channels()}, at::kFloat);
  const auto rows = pending();
  for_each_block(blocks_.size(), [&](int64_t block) {
    auto sum = blocks_[block].clone();
    if (pending_rows_ > 0) add_product(rows, block, sum);
    const int64_t first = block * kMomentColumns, count = sum.size(0);
    const auto mean = sum.div(static_cast<double>(rows_)).to(at::kFloat);
    const auto left = mean.narrow(1, 0, first), diagonal = mean.narrow(1, first, count);
    result.narrow(0, first, count).narrow(1, 0, first).copy_(left);
    result.narrow(0, 0, first).narrow(1, first, count).copy_(left.t());
    result.narrow(0, first, count).narrow(1, first, count).copy_(diagonal.tril() + diagonal.tril(-1).t());
  });
  return result;
}

at::Tensor InputMoments::mean() const {
  check_usable();
  const SingleThreadGuard deterministic;
  auto sum = sum_.clone();
  if (pending_rows_ > 0) sum.add_(pending().to(at::kDouble).sum(0));
  return sum.div_(static_cast<double>(rows_)).to(at::kFloat);
}

at::Tensor InputMoments::mean_square() const {
  check_usable();
  const SingleThreadGuard deterministic;
  auto sum = pending().to(at::kDouble).square().sum(0);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * kMomentColumns, count = blocks_[i].size(0);
    sum.narrow(0, first, count).add_(blocks_[i].narrow(1, first, count).diagonal());
  }
  return sum.div_(static_cast<double>(rows_)).to(at::kFloat);
}

std::vector<at::Tensor> InputMoments::state() const {
  std::vector<at::Tensor> result{at::scalar_tensor(rows_, at::kLong)};
  if (!sum_.defined()) return result;
  result.push_back(sum_.clone());
  result.push_back(pending().clone());
  for (const auto& block : blocks_) result.push_back(block.clone());
  return result;
}

void InputMoments::set_state(const std::vector<at::Tensor>& state) {
  const auto require = [](bool fine) {
    if (!fine) {
      throw Error(ErrorCode::kCalibration, "the saved moments of a layer's inputs are damaged", "InputMoments",
                  "collect them again");
    }
  };
  require(!state.empty() && state[0].scalar_type() == at::kLong && state[0].numel() == 1);
  InputMoments restored;
  if (state.size() > 1) {
    require(state.size() > 3 && state[1].dim() == 1 && state[1].numel() > 0 && state[2].dim() == 2);
    const int64_t channels = state[1].numel(), count = state[2].size(0);
    require(static_cast<int64_t>(state.size()) == 3 + panels_of(channels, kMomentColumns) && count < kMomentRows);
    restored.start(channels);
    const auto take = [&](at::Tensor to, const at::Tensor& from) {
      require(from.scalar_type() == to.scalar_type() && from.sizes() == to.sizes());
      to.copy_(from);
    };
    take(restored.sum_, state[1]);
    take(restored.pending_.narrow(0, 0, count), state[2]);
    for (size_t i = 3; i < state.size(); ++i) take(restored.blocks_[i - 3], state[i]);
    restored.pending_rows_ = count;
  }
  restored.rows_ = state[0].item<int64_t>();
  require(restored.rows_ >= restored.pending_rows_ && (restored.rows_ == 0 || state.size() > 1));
  *this = std::move(restored);
}

}  // namespace tsquant
