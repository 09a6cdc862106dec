#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace tsquant::testing {

/// Runs a test once per instruction set; those that the machine lacks are skipped.
class EveryTarget : public ::testing::TestWithParam<kernels::Isa> {
 protected:
  void SetUp() override {
    if (!kernels::has_isa(GetParam())) GTEST_SKIP() << "this machine does not have " << kernels::isa_name(GetParam());
    kernels::limit_isa(GetParam());
  }
  void TearDown() override { kernels::limit_isa(c10::nullopt); }
};

inline auto all_targets() {
  using kernels::Isa;
  return ::testing::Values(Isa::kScalar, Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvxVnni, Isa::kAvx512Vnni,
                           Isa::kAmx);
}
inline std::string target_name(const ::testing::TestParamInfo<kernels::Isa>& info) {
  return kernels::isa_name(info.param);
}

/// Memory that ends at a page which must not be touched, and begins behind another.
class GuardedBytes {
 public:
  /// @param at_end whether the last byte lies before the second forbidden page, else the first behind the first one
  GuardedBytes(size_t bytes, bool at_end) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    inner_ = (bytes + page_ - 1) / page_ * page_;
    void* memory = mmap(nullptr, inner_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    base_ = static_cast<uint8_t*>(memory);
    if (inner_ > 0) mprotect(base_ + page_, inner_, PROT_READ | PROT_WRITE);
    data_ = base_ + page_ + (at_end ? inner_ - bytes : 0);
  }
  explicit GuardedBytes(const std::vector<uint8_t>& bytes, bool at_end) : GuardedBytes(bytes.size(), at_end) {
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, inner_ + 2 * page_); }

  uint8_t* data() const { return data_; }

 private:
  size_t page_, inner_ = 0;
  uint8_t *base_ = nullptr, *data_ = nullptr;
};

inline std::vector<uint8_t> random_bytes(int64_t n, std::mt19937& random) {
  std::vector<uint8_t> bytes(static_cast<size_t>(n));
  for (auto& b : bytes) b = static_cast<uint8_t>(random());
  return bytes;
}

}  // namespace tsquant::testing
