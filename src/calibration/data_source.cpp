#include "tsquant/data_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "calibration/fingerprint.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr const char* kSameAdvice =
    "a data set must give the same items in every pass: read in order (torch::data loaders need a SequentialSampler, "
    "make_data_loader draws at random unless told otherwise) and leave random augmentation out";

}  // namespace

namespace detail {

void refuse_null_source() { throw Error(ErrorCode::kInvalidArgument, "the data source is null", "Dataset"); }

}  // namespace detail

Sample to_sample(Sample sample) { return sample; }

Sample to_sample(std::vector<c10::IValue> args) { return {std::move(args), {}}; }

Sample to_sample(const c10::IValue& item) {
  if (item.isTuple()) return {item.toTupleRef().elements().vec(), {}};
  if (!item.isGenericDict() || item.toGenericDict().keyType()->kind() != c10::TypeKind::StringType) return {{item}, {}};
  Sample sample;
  for (const auto& entry : item.toGenericDict()) sample.kwargs[entry.key().toStringRef()] = entry.value();
  return sample;
}

ForwardSource::ForwardSource(StartPass start, ToSample transform, c10::optional<int64_t> length, int64_t batch_size)
    : start_(std::move(start)), transform_(std::move(transform)), length_(length), batch_size_(batch_size) {
  if (length && *length < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the length {} is negative", *length), "Dataset");
  }
}

c10::optional<int64_t> ForwardSource::length() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return length_;
}

int64_t ForwardSource::count(int64_t limit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (length_) return std::min(*length_, limit);
  if (seen_ < limit) move_to(limit - 1);
  return std::min(seen_, limit);
}

/// Makes the item with this index the present one; false when the source has fewer items.
bool ForwardSource::move_to(int64_t index) {
  if (!pass_ || index < position_) {
    pass_.reset();  // loaders allow one pass at a time
    item_.reset();
    position_ = -1;
    pass_ = start_();
  }
  while (position_ < index) {
    std::any item;
    bool found_one = false;
    try {
      found_one = pass_->next(item);
    } catch (...) {
      pass_.reset();  // it may have moved on, so positions can no longer be trusted
      throw;
    }
    if (!found_one) {
      const int64_t found = position_ + 1, expected = std::max(seen_, length_.value_or(0));
      pass_.reset();
      if (found < expected) {
        throw Error(ErrorCode::kDataset,
                    fmt::format("the data source ended after {} items, but {}", found,
                                length_ ? fmt::format("its length is {}", *length_)
                                        : fmt::format("an earlier pass had at least {}", expected)),
                    "Dataset", kSameAdvice);
      }
      length_ = found;
      return false;
    }
    item_ = std::make_shared<const std::any>(std::move(item));
    seen_ = std::max(seen_, ++position_ + 1);
  }
  return true;
}

std::any ForwardSource::item(int64_t index) {
  const std::lock_guard<std::mutex> lock(mutex_);
  move_to(index);
  return *item_;
}

Sample ForwardSource::sample(int64_t index) {
  std::shared_ptr<const std::any> item;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    move_to(index);
    item = item_;
  }
  Sample sample = transform_(*item);
  const std::string print = fingerprint(sample);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (fingerprints_.emplace(index, print).first->second != print) {
    throw Error(ErrorCode::kDataset, fmt::format("sample {} is not the one that it was in an earlier pass", index),
                "Dataset", kSameAdvice);
  }
  return sample;
}

}  // namespace tsquant
