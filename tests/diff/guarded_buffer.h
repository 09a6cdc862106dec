#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace tsquant::testing {

/// `bytes` of memory between two pages that nobody may touch: reading or writing one byte too far ends the test. The
/// data lie at the end of their pages, or at the beginning.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes, bool at_end = true) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t inner = (bytes + page - 1) / page * page;
    size_ = inner + 2 * page;
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    auto* begin = static_cast<std::byte*>(memory_);
    mprotect(begin, page, PROT_NONE);
    mprotect(begin + page + inner, page, PROT_NONE);
    data_ = begin + page + (at_end ? inner - bytes : 0);
  }
  ~GuardedBuffer() { munmap(memory_, size_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  template <typename T = uint8_t>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace tsquant::testing
