#include "tsquant/dataset.h"

#include <ATen/ATen.h>
#include <c10/util/Type.h>
#include <fmt/format.h>

#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Samples that a function produces.
class GetterSource : public DataSource {
 public:
  GetterSource(int64_t length, Dataset::Getter get, int64_t batch_size)
      : length_(length), batch_size_(batch_size), get_(std::move(get)) {}
  c10::optional<int64_t> length() const override { return length_; }
  int64_t batch_size() const override { return batch_size_; }
  std::any item(int64_t index) override { return get_(index); }
  Sample sample(int64_t index) override { return get_(index); }

 private:
  int64_t length_, batch_size_;
  Dataset::Getter get_;
};

/// Reads with an index inside the source; what the source throws becomes an Error with the index.
template <typename Read>
auto read_at(DataSource& source, int64_t index, const Read& read) {
  try {
    if (index >= 0 && source.count(index + 1) > index) return read(source, index);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kDataset, fmt::format("sample {} could not be produced: {}", index, error.what()));
  }
  const int64_t length = source.count(std::numeric_limits<int64_t>::max());
  throw Error(ErrorCode::kDataset, fmt::format("sample {} of a data set with {} samples", index, length));
}

}  // namespace

Dataset::Dataset(std::shared_ptr<DataSource> source) : source_(std::move(source)) {
  if (!source_) detail::refuse_null_source();
}

Dataset::Dataset(int64_t length, Getter get, int64_t batch_size) {
  if (length < 0 || batch_size < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("length {} or batch size {} is negative", length, batch_size),
                "Dataset");
  }
  if (!get) throw Error(ErrorCode::kInvalidArgument, "the function that returns samples is empty", "Dataset");
  source_ = std::make_shared<GetterSource>(length, std::move(get), batch_size);
}

Dataset Dataset::from_tensors(std::vector<at::Tensor> tensors) {
  const auto length = static_cast<int64_t>(tensors.size());
  auto items = std::make_shared<std::vector<at::Tensor>>(std::move(tensors));
  return Dataset(length, [items](int64_t i) { return Sample{{(*items)[i]}, {}}; });
}

Dataset Dataset::from_rows(std::vector<at::Tensor> inputs, int64_t batch_size,
                           std::function<void(std::vector<at::Tensor>&)> transform) {
  if (batch_size < 1) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("batch_size is {}", batch_size), "Dataset::from_rows",
                "use at least 1");
  }
  if (inputs.empty()) {
    throw Error(ErrorCode::kDataset, "no tensors given", "Dataset::from_rows", "give one tensor per model input");
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dim() == 0) {
      throw Error(ErrorCode::kDataset, fmt::format("tensor {} has no dimension 0 to cut into rows", i),
                  "Dataset::from_rows");
    }
    if (inputs[i].size(0) != inputs[0].size(0)) {
      throw Error(ErrorCode::kDataset,
                  fmt::format("tensor {} has {} rows, tensor 0 has {}", i, inputs[i].size(0), inputs[0].size(0)),
                  "Dataset::from_rows", "all inputs of a sample need the same number of rows");
    }
  }
  const int64_t rows = inputs[0].size(0);
  const int64_t length = (rows + batch_size - 1) / batch_size;
  auto get = [inputs = std::move(inputs), batch_size, rows, transform = std::move(transform)](int64_t index) {
    const int64_t first = index * batch_size;
    const int64_t count = std::min(batch_size, rows - first);
    std::vector<at::Tensor> batch;
    for (const auto& input : inputs) batch.push_back(input.narrow(0, first, count));
    if (transform) transform(batch);
    return Sample{{batch.begin(), batch.end()}, {}};
  };
  return Dataset(length, std::move(get), batch_size);
}

Sample Dataset::read_sample(DataSource& source, int64_t index) {
  return read_at(source, index, [](DataSource& s, int64_t i) { return s.sample(i); });
}

std::any Dataset::read_item(DataSource& source, int64_t index) {
  return read_at(source, index, [](DataSource& s, int64_t i) { return s.item(i); });
}

void Dataset::refuse_item_type(const std::type_info& actual, const std::type_info& wanted) {
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("the items are of type {}, not {}", c10::demangle(actual.name()), c10::demangle(wanted.name())),
      "Dataset::get_data", "name the value type of the range, or std::any");
}

}  // namespace tsquant
