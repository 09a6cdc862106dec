#pragma once

#include <ATen/core/ivalue.h>
#include <c10/util/Optional.h>

#include <algorithm>
#include <any>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tsquant/sample.h"

namespace tsquant {

/// The call that a data item stands for, as NNCF reads it: a tuple or pair holds the positional arguments, a dictionary
/// with texts as keys the keyword arguments; a std::vector<IValue> is LibTorch's spelling of positional arguments.
/// Everything else, lists included, is the only argument.
Sample to_sample(Sample sample);
Sample to_sample(std::vector<c10::IValue> args);
Sample to_sample(const c10::IValue& item);

template <typename... Items>
Sample to_sample(const std::tuple<Items...>& items) {
  return std::apply([](const auto&... item) { return Sample{{c10::IValue(item)...}, {}}; }, items);
}
template <typename First, typename Second>
Sample to_sample(const std::pair<First, Second>& items) {
  return {{c10::IValue(items.first), c10::IValue(items.second)}, {}};
}
template <typename Item>
Sample to_sample(const std::map<std::string, Item>& items) {
  return {{}, {items.begin(), items.end()}};
}
template <typename Item>
Sample to_sample(const std::unordered_map<std::string, Item>& items) {
  return {{}, {items.begin(), items.end()}};
}

/// The transform function of data sets whose items are calls already.
struct ItemIsSample {
  template <typename Item>
  Sample operator()(const Item& item) const {
    return to_sample(item);
  }
};

/// What a Dataset reads from. Derive from it for sources that are no C++ range.
class DataSource {
 public:
  virtual ~DataSource() = default;
  /// Number of items; none when only reading to the end would tell.
  virtual c10::optional<int64_t> length() const = 0;
  /// Rows along dimension 0 of one item; 0 when unknown.
  virtual int64_t batch_size() const { return 0; }
  /// min(number of items, limit), without reading further than that.
  virtual int64_t count(int64_t limit) { return std::min(length().value_or(0), limit); }
  /// The item as it is. The index is inside the range; the same index gives the same item again; several threads may
  /// ask at the same time.
  virtual std::any item(int64_t index) = 0;
  /// The call that the item with this index stands for; under the same conditions as `item`.
  virtual Sample sample(int64_t index) = 0;
};

/// Sources that can only be read from the front, such as data loaders: holds one pass at a time, starts a new one when
/// an index before its position is asked for, and finds out when passes differ.
class ForwardSource : public DataSource {
 public:
  /// One pass. `next` returns false at the end.
  class Pass {
   public:
    virtual ~Pass() = default;
    virtual bool next(std::any& item) = 0;
  };
  using StartPass = std::function<std::unique_ptr<Pass>()>;
  using ToSample = std::function<Sample(const std::any&)>;

  /// @param length number of items when it is known; saves reading to the end to find out
  ForwardSource(StartPass start, ToSample transform, c10::optional<int64_t> length, int64_t batch_size);

  c10::optional<int64_t> length() const override;
  int64_t batch_size() const override { return batch_size_; }
  int64_t count(int64_t limit) override;
  /// @throws Error kDataset when a pass ends earlier than the one before, or the length that was given
  std::any item(int64_t index) override;
  /// @throws Error kDataset also when the sample with this index is another one than before
  Sample sample(int64_t index) override;

 private:
  bool move_to(int64_t index);

  StartPass start_;
  ToSample transform_;
  c10::optional<int64_t> length_;
  int64_t batch_size_;
  mutable std::mutex mutex_;
  std::unique_ptr<Pass> pass_;
  int64_t position_ = -1;  ///< index of item_ in the present pass
  int64_t seen_ = 0;       ///< items that some pass has reached
  std::shared_ptr<const std::any> item_;
  std::map<int64_t, std::string> fingerprints_;  ///< of the samples that were given out
};

namespace detail {

template <typename Range>
using IteratorOf = std::decay_t<decltype(std::begin(std::declval<Range&>()))>;
template <typename Range>
using ItemOf = typename std::iterator_traits<IteratorOf<Range>>::value_type;
template <typename Range>
using CategoryOf = typename std::iterator_traits<IteratorOf<Range>>::iterator_category;

template <typename Range, typename = void>
struct IsRange : std::false_type {};
template <typename Range>
struct IsRange<Range, std::void_t<ItemOf<Range>, CategoryOf<Range>>> : std::true_type {};

/// @throws Error kInvalidArgument
[[noreturn]] void refuse_null_source();

/// `options().batch_size`, as torch::data loaders have it; 0 for other ranges.
template <typename Range>
auto batch_size_of(const Range& range, int) -> decltype(static_cast<int64_t>(range.options().batch_size)) {
  return static_cast<int64_t>(range.options().batch_size);
}
template <typename Range>
int64_t batch_size_of(const Range&, long) {  // NOLINT: the other overload is preferred where it exists
  return 0;
}

/// `options().workers`: batches of such a loader are on their way while others are used.
template <typename Range>
auto has_workers(const Range& range, int) -> decltype(range.options().workers > 0) {
  return range.options().workers > 0;
}
template <typename Range>
bool has_workers(const Range&, long) {  // NOLINT: the other overload is preferred where it exists
  return false;
}

/// A range whose items can be visited in any order.
template <typename Range, typename Transform>
class RangeSource : public DataSource {
 public:
  RangeSource(std::shared_ptr<Range> range, Transform transform)
      : range_(std::move(range)), transform_(std::move(transform)) {
    for (auto it = std::begin(*range_); it != std::end(*range_); ++it) places_.push_back(it);
  }
  c10::optional<int64_t> length() const override { return static_cast<int64_t>(places_.size()); }
  int64_t batch_size() const override { return batch_size_of(*range_, 0); }
  std::any item(int64_t index) override { return ItemOf<Range>(*places_.at(static_cast<size_t>(index))); }
  Sample sample(int64_t index) override { return to_sample(transform_(*places_.at(static_cast<size_t>(index)))); }

 private:
  std::shared_ptr<Range> range_;
  Transform transform_;
  std::vector<IteratorOf<Range>> places_;
};

/// One pass over a range whose iterators visit it once. A loader with workers refuses a new iterator while batches are
/// on their way, so a pass over it that is left early is read to its end.
template <typename Range>
class RangePass : public ForwardSource::Pass {
 public:
  explicit RangePass(std::shared_ptr<Range> range)
      : range_(std::move(range)), next_(std::begin(*range_)), end_(std::end(*range_)) {}
  ~RangePass() override {
    if (!has_workers(*range_, 0)) return;
    try {
      while (advance()) {
      }
    } catch (...) {  // NOLINT: a batch that nobody asked for could not be read
    }
  }
  bool next(std::any& item) override {
    if (!advance()) return false;
    item = ItemOf<Range>(*next_);
    return true;
  }

 private:
  /// The iterator moves when the next item is wanted, not before: loaders read when they are moved.
  bool advance() {
    if (started_ && next_ != end_) ++next_;
    started_ = true;
    return next_ != end_;
  }

  std::shared_ptr<Range> range_;
  IteratorOf<Range> next_;
  std::decay_t<decltype(std::end(std::declval<Range&>()))> end_;
  bool started_ = false;
};

/// A source over passes whose items have the type of the range's.
template <typename Range, typename Transform>
std::shared_ptr<DataSource> make_forward_source(ForwardSource::StartPass start, Transform transform,
                                                c10::optional<int64_t> length, int64_t batch_size) {
  auto to_call = [transform = std::move(transform)](const std::any& item) {
    return to_sample(transform(std::any_cast<const ItemOf<Range>&>(item)));
  };
  return std::make_shared<ForwardSource>(std::move(start), std::move(to_call), length, batch_size);
}

template <typename Range, typename Transform>
std::shared_ptr<DataSource> make_source(std::shared_ptr<Range> range, Transform transform,
                                        c10::optional<int64_t> length = c10::nullopt) {
  static_assert(std::is_copy_constructible<ItemOf<Range>>::value, "get_data returns copies of the items");
  if (!range) refuse_null_source();
  if constexpr (std::is_base_of<std::forward_iterator_tag, CategoryOf<Range>>::value) {
    return std::make_shared<RangeSource<Range, Transform>>(std::move(range), std::move(transform));
  } else {
    const auto start = [range] { return std::make_unique<RangePass<Range>>(range); };
    return make_forward_source<Range>(start, std::move(transform), length, batch_size_of(*range, 0));
  }
}

}  // namespace detail

/// Selected items of a data source, one after another, read when the iterator is dereferenced.
template <typename Item>
class DataRange {
 public:
  using Read = Item (*)(DataSource& source, int64_t index);
  using Indices = c10::optional<std::vector<int64_t>>;

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Item;
    using difference_type = std::ptrdiff_t;
    using pointer = const Item*;
    using reference = Item;

    Iterator(const DataRange* range, int64_t position) : range_(range), position_(position) {}
    Item operator*() const { return range_->at(position_); }
    Iterator& operator++() {
      ++position_;
      return *this;
    }
    bool operator==(const Iterator& other) const {
      return at_end() || other.at_end() ? at_end() == other.at_end() : position_ == other.position_;
    }
    bool operator!=(const Iterator& other) const { return !(*this == other); }

   private:
    bool at_end() const { return position_ < 0 || !range_->has(position_); }
    const DataRange* range_;
    int64_t position_;
  };

  DataRange(std::shared_ptr<DataSource> source, Indices indices, Read read)
      : source_(std::move(source)), indices_(std::move(indices)), read_(read) {}
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, -1}; }

 private:
  bool has(int64_t position) const {
    if (indices_) return position < static_cast<int64_t>(indices_->size());
    return source_->count(position + 1) > position;
  }
  Item at(int64_t position) const {
    return read_(*source_, indices_ ? indices_->at(static_cast<size_t>(position)) : position);
  }

  std::shared_ptr<DataSource> source_;
  Indices indices_;
  Read read_;
};

}  // namespace tsquant
