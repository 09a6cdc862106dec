#include "flows/compression/rank_group.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "calibration/rank_agreement.h"
#include "flows/compression/layer_results.h"
#include "io/file_mapping.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr const char* kPlace = "compression across processes";

/// Sizes, such as values of weights, that each rank works through between two exchanges: bounds the memory for results
/// and the time until a lost rank shows.
constexpr int64_t kPartSize = int64_t{1} << 26;

ResultKey key_of(size_t item) { return {"", "exchange", fmt::to_string(item)}; }

at::Tensor tensor_of(const std::string& bytes) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(tensor.data_ptr()));
  return tensor;
}

}  // namespace

RankGroup::RankGroup(std::shared_ptr<StatisticsExchange> exchange)
    : exchange_(exchange && exchange->size() > 1 ? std::move(exchange) : nullptr) {}

bool RankGroup::is_first() const { return alone() || exchange_->rank() == 0; }

void RankGroup::run(const std::function<void()>& work) {
  if (alone()) return work();
  try {
    work();
  } catch (...) {
    if (all_know_) throw;
    const auto failure = std::current_exception();
    try {
      throw_together(failure);
    } catch (...) {  // this rank says what it knows itself
    }
    std::rethrow_exception(failure);
  }
}

void RankGroup::run_together(const std::function<void()>& work) {
  if (alone()) return work();
  throw_together(nullptr);
  try {
    work();
  } catch (...) {
    all_know_ = true;
    throw;
  }
}

void RankGroup::require_equal(const std::map<std::string, std::string>& keys) {
  if (alone()) return;
  run_together([&] {
    try {
      require_equal_ranks(*exchange_, keys);
    } catch (const Error& error) {
      throw Error(error.code(), error.message(), kPlace, error.advice());
    }
  });
}

void RankGroup::throw_together(const std::exception_ptr& mine) {
  try {
    tsquant::throw_together(exchange_.get(), mine);
  } catch (...) {
    all_know_ = true;
    throw;
  }
}

void RankGroup::share(const std::vector<int64_t>& sizes, const Make& make, const Take& take) {
  if (alone()) {
    for (size_t i = 0; i < sizes.size(); ++i) take(i, make(i));
    return;
  }
  for (size_t begin = 0; begin < sizes.size();) {
    size_t end = begin;
    for (int64_t sum = 0; end < sizes.size() && (end == begin || sum < kPartSize * exchange_->size()); ++end) {
      sum += sizes[end];
    }
    share_part(sizes, begin, end, make, take);
    begin = end;
  }
}

void RankGroup::share_part(const std::vector<int64_t>& sizes, size_t begin, size_t end, const Make& make,
                           const Take& take) {
  const auto at = [&](size_t i) { return sizes.begin() + static_cast<std::ptrdiff_t>(i); };
  const auto owners = owners_of({at(begin), at(end)}, exchange_->size());
  std::vector<c10::optional<LayerResult>> results(owners.size());
  std::exception_ptr failure;
  try {
    for (size_t i = 0; i < owners.size(); ++i) {
      if (owners[i] == exchange_->rank()) results[i] = make(begin + i);
    }
  } catch (...) {
    failure = std::current_exception();
  }
  throw_together(failure);
  exchange_results(owners, results);
  for (size_t i = 0; i < owners.size(); ++i) {
    take(begin + i, *results[i]);
    results[i] = c10::nullopt;
  }
}

void RankGroup::complete(std::vector<c10::optional<LayerResult>>& results) {
  if (alone()) return;
  std::string mine;
  for (const auto& result : results) mine.push_back(result ? '1' : '0');
  std::vector<std::string> all;
  run_together([&] { all = gather_texts(exchange_.get(), mine); });
  std::vector<int64_t> owners(results.size(), -1);  // -1: all ranks have it, or none does
  for (size_t i = 0; i < results.size(); ++i) {
    const auto has = [&](const std::string& theirs) { return theirs.at(i) == '1'; };
    const auto first = std::find_if(all.begin(), all.end(), has);
    if (first != all.end() && !std::all_of(all.begin(), all.end(), has)) owners[i] = first - all.begin();
  }
  exchange_results(owners, results);
}

void RankGroup::exchange_results(const std::vector<int64_t>& owners, std::vector<c10::optional<LayerResult>>& results) {
  std::string bytes;
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < owners.size(); ++i) {
    if (owners[i] != exchange_->rank()) continue;
    const std::string of_item = bytes_of(key_of(i), *results[i]);
    lengths.push_back(static_cast<int64_t>(of_item.size()));
    bytes += of_item;
  }
  run_together([&] {
    const auto all = exchange_->all_gather({at::tensor(lengths, at::kLong), tensor_of(bytes)});
    std::vector<int64_t> items(all.size(), 0), used(all.size(), 0);
    for (size_t i = 0; i < owners.size(); ++i) {
      if (owners[i] < 0) continue;
      const auto rank = static_cast<size_t>(owners[i]);
      const int64_t length = all[rank].at(0)[items[rank]++].item<int64_t>();
      const at::Tensor part = all[rank].at(1).narrow(0, used[rank], length);
      used[rank] += length;
      results[i] = result_from({static_cast<const char*>(part.data_ptr()), static_cast<size_t>(length)}, key_of(i),
                               fmt::format("rank {}", rank));
    }
  });
}

std::vector<int64_t> owners_of(const std::vector<int64_t>& sizes, int64_t ranks) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<int64_t> owners(sizes.size()), load(static_cast<size_t>(ranks), 0);
  for (const size_t item : order) {
    const auto least = std::min_element(load.begin(), load.end());
    owners[item] = least - load.begin();
    *least += sizes[item];
  }
  return owners;
}

void share_layers(RankGroup& ranks, const std::vector<WeightLayer*>& layers,
                  const std::function<void(WeightLayer&)>& work, const std::function<void(WeightLayer&)>& use) {
  if (ranks.alone()) {
    for (WeightLayer* layer : layers) {
      work(*layer);
      use(*layer);
    }
    return;
  }
  std::vector<int64_t> sizes;
  for (const WeightLayer* layer : layers) {
    const bool is_done = layer->in_float || layer->stored;
    sizes.push_back(is_done ? 0 : layer->weight.numel());
  }
  const auto make = [&](size_t i) {
    WeightLayer& layer = *layers[i];
    work(layer);
    LayerResult result = result_of(layer);
    // Those of all layers of a part wait: the packed codes of the result are enough.
    give_pages_back(layer.weight);
    layer.compressed = c10::nullopt;
    layer.correction = c10::nullopt;
    return result;
  };
  ranks.share(sizes, make, [&](size_t i, const LayerResult& result) {
    restore(result, *layers[i]);
    use(*layers[i]);
  });
}

}  // namespace tsquant
