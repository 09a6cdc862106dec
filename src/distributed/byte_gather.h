#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace tsquant {

/// How the ranks of a calibration meet: a file that all of them see.
struct Meeting {
  std::string store_path;
  int64_t rank = 0, size = 1;
  std::chrono::milliseconds timeout{300000};
};

/// Gives every rank the bytes of all ranks, in rank order. Every rank must make the same calls.
class ByteGather {
 public:
  virtual ~ByteGather() = default;
  /// @param bytes uint8 [n], where n may differ between ranks
  virtual std::vector<at::Tensor> all_gather(const at::Tensor& bytes) = 0;
};

/// ProcessGroupGloo: the ranks find each other through the file and then talk over TCP. Null when this build lacks
/// Gloo's headers (Debian: libgloo-dev), which c10d's header needs.
std::unique_ptr<ByteGather> make_gloo_gather(const Meeting& meeting);

/// The bytes themselves go through c10d's FileStore, which is slower and lets the file grow.
std::unique_ptr<ByteGather> make_store_gather(const Meeting& meeting);

}  // namespace tsquant
