#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace tsquant {

/// One call of the model: positional arguments of `forward` (without self) and keyword arguments.
struct Sample {
  std::vector<c10::IValue> args;
  std::unordered_map<std::string, c10::IValue> kwargs;
};

/// A repeatable source of samples, pulled one at a time so that nothing holds all data in memory.
///
/// ```cpp
/// std::vector<at::Tensor> images = ...;
/// auto data = tsquant::Dataset::from_tensors(images);
/// ```
class Dataset {
 public:
  /// Returns the sample with this index, or throws tsquant::Error (kDataset).
  using Getter = std::function<Sample(int64_t index)>;

  /// A data set of `length` samples produced on demand.
  /// @param batch_size number of items along dimension 0 of each sample's tensors; 0 when unknown
  Dataset(int64_t length, Getter get, int64_t batch_size = 0);

  /// Each tensor becomes one sample with one positional argument.
  static Dataset from_tensors(std::vector<at::Tensor> tensors);

  /// Rows of `inputs` (same size along dimension 0) cut into batches; one positional argument per tensor. The last,
  /// smaller batch is kept.
  /// @param transform applied to the batch tensors of each sample, for example a normalisation; may be empty
  /// @throws Error kDataset when `inputs` is empty or the row counts differ; kInvalidArgument when batch_size < 1
  static Dataset from_rows(std::vector<at::Tensor> inputs, int64_t batch_size,
                           std::function<void(std::vector<at::Tensor>&)> transform = {});

  /// Any C++ range (`begin`/`end`) whose elements `transform` turns into samples. The range is copied.
  template <typename Range, typename Transform>
  static Dataset from_range(Range range, Transform transform) {
    auto items = std::make_shared<std::vector<typename Range::value_type>>(std::begin(range), std::end(range));
    const auto length = static_cast<int64_t>(items->size());
    return Dataset(length, [items, transform](int64_t i) -> Sample { return transform((*items)[i]); });
  }

  int64_t length() const { return length_; }
  int64_t batch_size() const { return batch_size_; }
  Sample get(int64_t index) const;

 private:
  int64_t length_;
  int64_t batch_size_;
  Getter get_;
};

}  // namespace tsquant
