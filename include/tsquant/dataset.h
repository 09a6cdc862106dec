#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tsquant/data_source.h"

namespace tsquant {

/// A repeatable source of samples, pulled one at a time so that nothing holds all data in memory (nncf.Dataset).
///
/// ```cpp
/// std::vector<std::pair<at::Tensor, int64_t>> labelled = ...;
/// tsquant::Dataset data(labelled, [](const auto& item) { return item.first; });
/// for (const tsquant::Sample& sample : data.get_inference_data({{0, 2, 4}})) ...
/// ```
class Dataset {
 public:
  using Indices = c10::optional<std::vector<int64_t>>;
  /// Returns the sample with this index, or throws tsquant::Error (kDataset).
  using Getter = std::function<Sample(int64_t index)>;

  /// A data set over any C++ range (`begin`/`end`), which is copied or moved in. Ranges whose iterators are visited
  /// once only, such as torch::data loaders, are read from the front again for each pass and must give the same items
  /// in the same order each time; see also data_loader.h.
  /// @param transform turns an item into a call: returns a Sample or anything that to_sample takes. It must give the
  ///                  same result for the same item; flows may call it from several threads. Left out: items are calls
  template <typename Range, typename Transform = ItemIsSample, std::enable_if_t<detail::IsRange<Range>::value, int> = 0>
  explicit Dataset(Range data_source, Transform transform = {})
      : source_(detail::make_source(std::make_shared<Range>(std::move(data_source)), std::move(transform))) {}

  /// The same over a range that is shared, or handed over, instead of copied.
  template <typename Range, typename Transform = ItemIsSample, std::enable_if_t<detail::IsRange<Range>::value, int> = 0>
  explicit Dataset(std::shared_ptr<Range> data_source, Transform transform = {})
      : source_(detail::make_source(std::move(data_source), std::move(transform))) {}
  template <typename Range, typename Transform = ItemIsSample, std::enable_if_t<detail::IsRange<Range>::value, int> = 0>
  explicit Dataset(std::unique_ptr<Range> data_source, Transform transform = {})
      : Dataset(std::shared_ptr<Range>(std::move(data_source)), std::move(transform)) {}

  /// A data set over a source of your own.
  explicit Dataset(std::shared_ptr<DataSource> source);

  /// A data set of `length` samples produced on demand.
  /// @param batch_size number of items along dimension 0 of each sample's tensors; 0 when unknown
  Dataset(int64_t length, Getter get, int64_t batch_size = 0);

  /// Each tensor becomes one sample with one positional argument. Nothing says whether dimension 0 counts items, so the
  /// batch size is unknown (0): give it with the constructor of a length and a getter where it matters.
  static Dataset from_tensors(std::vector<at::Tensor> tensors);

  /// Rows of `inputs` (same size along dimension 0) cut into batches; one positional argument per tensor. The last,
  /// smaller batch is kept.
  /// @param transform applied to the batch tensors of each sample, for example a normalisation; may be empty
  /// @throws Error kDataset when `inputs` is empty or the row counts differ; kInvalidArgument when batch_size < 1
  static Dataset from_rows(std::vector<at::Tensor> inputs, int64_t batch_size,
                           std::function<void(std::vector<at::Tensor>&)> transform = {});

  /// The constructor over a range as a function.
  template <typename Range, typename Transform>
  static Dataset from_range(Range range, Transform transform) {
    return Dataset(std::move(range), std::move(transform));
  }

  /// The items of the source as they are, in the order of the indices; all of them without indices. `Item` is the
  /// range's value type, or std::any; a data set made from a getter has Samples. Items are read while iterating.
  /// @throws Error while iterating: kDataset for an index outside, kInvalidArgument when `Item` is another type
  template <typename Item = std::any>
  DataRange<Item> get_data(Indices indices = c10::nullopt) const {
    return {source_, std::move(indices), [](DataSource& source, int64_t index) -> Item {
              if constexpr (std::is_same<Item, std::any>::value) {
                return read_item(source, index);
              } else {
                std::any item = read_item(source, index);
                if (auto* typed = std::any_cast<Item>(&item)) return std::move(*typed);
                refuse_item_type(item.type(), typeid(Item));
              }
            }};
  }
  /// The same for indices in braces, also for a single one: `get_data({99})` or `get_data({{99}})`.
  template <typename Item = std::any>
  DataRange<Item> get_data(std::initializer_list<int64_t> indices) const {
    return get_data<Item>(Indices(std::vector<int64_t>(indices)));
  }
  /// The samples that the transform function makes of these items.
  DataRange<Sample> get_inference_data(Indices indices = c10::nullopt) const {
    return {source_, std::move(indices), &read_sample};
  }
  /// The same for indices in braces: `get_inference_data({99})` or `get_inference_data({{99}})`.
  DataRange<Sample> get_inference_data(std::initializer_list<int64_t> indices) const {
    return get_inference_data(Indices(std::vector<int64_t>(indices)));
  }
  /// Number of items; none for sources that would have to be read to the end first.
  c10::optional<int64_t> get_length() const { return source_->length(); }
  /// Rows along dimension 0 of one item; none when unknown.
  c10::optional<int64_t> get_batch_size() const {
    return batch_size() > 0 ? c10::optional<int64_t>(batch_size()) : c10::nullopt;
  }

  /// Number of items; reads sources of unknown length once to the end.
  int64_t length() const { return count(std::numeric_limits<int64_t>::max()); }
  /// min(length(), limit), without reading further than that.
  int64_t count(int64_t limit) const { return source_->count(limit); }
  /// get_batch_size(), or 0 when unknown.
  int64_t batch_size() const { return source_->batch_size(); }
  /// One sample. @throws Error kDataset: an index outside, or what the source or the transform function threw
  Sample get(int64_t index) const { return read_sample(*source_, index); }

 private:
  static Sample read_sample(DataSource& source, int64_t index);
  static std::any read_item(DataSource& source, int64_t index);
  [[noreturn]] static void refuse_item_type(const std::type_info& actual, const std::type_info& wanted);

  std::shared_ptr<DataSource> source_;
};

}  // namespace tsquant
