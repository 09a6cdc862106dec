#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace tsquant::kernels {

/// Bytes on a cache-line boundary. `slack` further bytes may be read (not written) behind the end.
class AlignedBuffer {
 public:
  static constexpr size_t kAlignment = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes, size_t slack = 0) { resize(bytes, slack); }

  /// Makes room for `bytes`; the content is undefined afterwards when the buffer has to grow.
  void resize(size_t bytes, size_t slack = 0) {
    const size_t wanted = (bytes + slack + kAlignment) / kAlignment * kAlignment;
    if (wanted > capacity_) {
      void* memory = std::aligned_alloc(kAlignment, wanted);
      if (memory == nullptr) throw std::bad_alloc();
      data_.reset(static_cast<std::byte*>(memory));
      capacity_ = wanted;
    }
  }

  template <typename T = std::byte>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }
  size_t capacity() const { return capacity_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t capacity_ = 0;
};

}  // namespace tsquant::kernels
