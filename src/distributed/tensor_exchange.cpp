#include "distributed/tensor_exchange.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <cmath>
#include <cstring>

#include "base/error_text.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

at::Tensor to_bytes(const std::vector<at::Tensor>& tensors) {
  const auto data = torch::jit::pickle_save(c10::List<at::Tensor>(tensors));
  auto bytes = at::empty({static_cast<int64_t>(data.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), data.data(), data.size());
  return bytes;
}

std::vector<at::Tensor> to_tensors(const at::Tensor& bytes) {
  const auto dense = bytes.contiguous();
  const char* data = static_cast<const char*>(dense.data_ptr());
  return torch::jit::pickle_load(std::vector<char>(data, data + dense.numel())).toTensorVector();
}

class TensorExchange : public StatisticsExchange {
 public:
  TensorExchange(const Meeting& meeting, std::unique_ptr<ByteGather> gather)
      : meeting_(meeting), gather_(std::move(gather)) {}

  int64_t rank() const override { return meeting_.rank; }
  int64_t size() const override { return meeting_.size; }

  std::vector<std::vector<at::Tensor>> all_gather(const std::vector<at::Tensor>& tensors) override {
    std::vector<std::vector<at::Tensor>> result;
    try {
      for (const auto& bytes : gather_->all_gather(to_bytes(tensors))) result.push_back(to_tensors(bytes));
    } catch (const std::exception& error) {
      throw Error(ErrorCode::kCalibration, "a rank was lost: " + short_message(error), place(),
                  "see why another rank ended; give a longer timeout when it is only slow");
    }
    for (size_t rank = 0; rank < result.size(); ++rank) require_same_kind(tensors, result[rank], rank);
    return result;
  }

 private:
  std::string place() const { return fmt::format("rank {} of {}", meeting_.rank, meeting_.size); }

  void require_same_kind(const std::vector<at::Tensor>& mine, const std::vector<at::Tensor>& theirs,
                         size_t rank) const {
    bool same = mine.size() == theirs.size();
    for (size_t i = 0; same && i < mine.size(); ++i) same = mine[i].scalar_type() == theirs[i].scalar_type();
    if (same) return;
    throw Error(ErrorCode::kCalibration,
                fmt::format("rank {} is at another step: it sent {} tensors where this rank sent {}, or other types",
                            rank, theirs.size(), mine.size()),
                place(), "run the same program with the same options on every rank");
  }

  Meeting meeting_;
  std::unique_ptr<ByteGather> gather_;
};

}  // namespace

Meeting checked_meeting(const std::string& store_path, int64_t rank, int64_t size, double timeout_seconds) {
  if (store_path.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no file to meet at was given", "store_path",
                "give a path on a file system that all ranks see");
  }
  if (size < 1 || rank < 0 || rank >= size) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no rank {} among {} processes", rank, size), "rank",
                "ranks count from 0 to size - 1");
  }
  if (!(timeout_seconds > 0) || std::isinf(timeout_seconds)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("timeout_seconds is {}", timeout_seconds), "timeout_seconds",
                "give a positive number of seconds");
  }
  return {store_path, rank, size, std::chrono::milliseconds(static_cast<int64_t>(std::ceil(timeout_seconds * 1000)))};
}

std::shared_ptr<StatisticsExchange> make_tensor_exchange(const Meeting& meeting, std::unique_ptr<ByteGather> gather) {
  return std::make_shared<TensorExchange>(meeting, std::move(gather));
}

std::shared_ptr<StatisticsExchange> make_gloo_exchange(const std::string& store_path, int64_t rank, int64_t size,
                                                       double timeout_seconds) {
  const auto meeting = checked_meeting(store_path, rank, size, timeout_seconds);
  try {
    auto gather = make_gloo_gather(meeting);
    if (!gather) gather = make_store_gather(meeting);
    return make_tensor_exchange(meeting, std::move(gather));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kCalibration, "the ranks did not meet: " + short_message(error), store_path,
                fmt::format("start all {} ranks with the same fresh path", size));
  }
}

}  // namespace tsquant
