#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>

#include <cstring>

#include "distributed/byte_gather.h"

namespace tsquant {

namespace {

class StoreGather : public ByteGather {
 public:
  explicit StoreGather(const Meeting& meeting)
      : rank_(meeting.rank),
        size_(meeting.size),
        store_(c10::make_intrusive<c10d::FileStore>(meeting.store_path, static_cast<int>(meeting.size))) {
    store_->setTimeout(meeting.timeout);
  }

  std::vector<at::Tensor> all_gather(const at::Tensor& bytes) override {
    const auto dense = bytes.contiguous();
    const auto* data = dense.data_ptr<uint8_t>();
    store_->set(key(rank_), std::vector<uint8_t>(data, data + dense.numel()));
    std::vector<at::Tensor> all;
    for (int64_t rank = 0; rank < size_; ++rank) {
      const std::vector<uint8_t> theirs = store_->get(key(rank));
      auto tensor = at::empty({static_cast<int64_t>(theirs.size())}, at::kByte);
      std::memcpy(tensor.data_ptr(), theirs.data(), theirs.size());
      all.push_back(tensor);
    }
    ++step_;
    return all;
  }

 private:
  std::string key(int64_t rank) const { return fmt::format("tsquant/{}/{}", step_, rank); }

  int64_t rank_, size_, step_ = 0;
  c10::intrusive_ptr<c10d::FileStore> store_;
};

}  // namespace

std::unique_ptr<ByteGather> make_store_gather(const Meeting& meeting) { return std::make_unique<StoreGather>(meeting); }

}  // namespace tsquant
