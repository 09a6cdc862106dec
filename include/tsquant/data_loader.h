#pragma once

#include <torch/data.h>

#include <utility>

#include "tsquant/dataset.h"

namespace tsquant {

/// The transform function of loaders whose batches are torch::data::Example: `data` is the only argument of the model,
/// `target` is left out.
struct ExampleData {
  template <typename Batch>
  c10::IValue operator()(const Batch& batch) const {
    return batch.data;
  }
};

/// A data set over a torch::data loader. Batches are read again for every pass, in order, one pass at a time, and
/// nothing is kept in memory; a loader that gives other batches in a later pass is an error, so make it with a
/// SequentialSampler (make_data_loader draws at random unless told otherwise).
///
/// ```cpp
/// auto images = torch::data::datasets::MNIST("mnist").map(torch::data::transforms::Stack<>());
/// auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(std::move(images), 32);
/// auto data = tsquant::from_data_loader(std::move(loader));
/// ```
/// @param loader    std::unique_ptr as make_data_loader returns it, or std::shared_ptr. With workers, leaving a pass
///                  early reads it to its end; give a function that makes loaders where that takes too long
/// @param transform turns a batch into a call: a Sample or anything that to_sample takes
/// @param length    number of batches when it is known; nothing has to be read to find out then
/// @throws Error kDataset when a pass ends early or gives other batches
template <typename Loader, typename Transform = ExampleData, std::enable_if_t<detail::IsRange<Loader>::value, int> = 0>
Dataset from_data_loader(std::shared_ptr<Loader> loader, Transform transform = {},
                         c10::optional<int64_t> length = c10::nullopt) {
  return Dataset(detail::make_source(std::move(loader), std::move(transform), length));
}
template <typename Loader, typename Transform = ExampleData, std::enable_if_t<detail::IsRange<Loader>::value, int> = 0>
Dataset from_data_loader(std::unique_ptr<Loader> loader, Transform transform = {},
                         c10::optional<int64_t> length = c10::nullopt) {
  return from_data_loader(std::shared_ptr<Loader>(std::move(loader)), std::move(transform), length);
}

/// The same with a new loader for every pass.
/// @param make_loader returns a std::unique_ptr to a loader, each time over the same data in the same order; called
///                    once at once to learn the batch size
template <typename MakeLoader, typename Transform = ExampleData,
          typename Loader = typename std::decay_t<decltype(std::declval<MakeLoader&>()())>::element_type>
Dataset from_data_loader(MakeLoader make_loader, Transform transform = {},
                         c10::optional<int64_t> length = c10::nullopt) {
  const auto batch_size = static_cast<int64_t>(make_loader()->options().batch_size);
  const auto start = [make_loader = std::move(make_loader)]() mutable {
    return std::make_unique<detail::RangePass<Loader>>(std::shared_ptr<Loader>(make_loader()));
  };
  return Dataset(detail::make_forward_source<Loader>(start, std::move(transform), length, batch_size));
}

}  // namespace tsquant
