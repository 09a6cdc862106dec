#include "distributed/byte_gather.h"

#ifdef TSQUANT_WITH_GLOO

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <algorithm>

namespace tsquant {

namespace {

class GlooGather : public ByteGather {
 public:
  explicit GlooGather(const Meeting& meeting) : size_(meeting.size) {
    auto store = c10::make_intrusive<c10d::FileStore>(meeting.store_path, static_cast<int>(meeting.size));
    store->setTimeout(meeting.timeout);
    auto options = c10d::ProcessGroupGloo::Options::create(meeting.timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    options->threads = 1;
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, static_cast<int>(meeting.rank),
                                                         static_cast<int>(meeting.size), options);
  }

  std::vector<at::Tensor> all_gather(const at::Tensor& bytes) override {
    const auto lengths = gather(at::full({1}, bytes.numel(), at::kLong));
    int64_t longest = 1;
    for (const auto& length : lengths) longest = std::max(longest, length.item<int64_t>());
    auto padded = at::zeros({longest}, at::kByte);
    padded.narrow(0, 0, bytes.numel()).copy_(bytes);
    auto all = gather(padded);
    for (size_t i = 0; i < all.size(); ++i) all[i] = all[i].narrow(0, 0, lengths[i].item<int64_t>());
    return all;
  }

 private:
  std::vector<at::Tensor> gather(const at::Tensor& mine) {
    std::vector<at::Tensor> inputs{mine};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int64_t i = 0; i < size_; ++i) outputs[0].push_back(at::empty_like(mine));
    group_->allgather(outputs, inputs)->wait();
    return outputs[0];
  }

  int64_t size_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

std::unique_ptr<ByteGather> make_gloo_gather(const Meeting& meeting) { return std::make_unique<GlooGather>(meeting); }

}  // namespace tsquant

#else

namespace tsquant {

std::unique_ptr<ByteGather> make_gloo_gather(const Meeting&) { return nullptr; }

}  // namespace tsquant

#endif
