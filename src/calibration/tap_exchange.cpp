#include "calibration/tap_exchange.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr std::array<c10::ScalarType, 3> kTypes{at::kFloat, at::kDouble, at::kLong};

size_t type_index(c10::ScalarType type) {
  const auto found = std::find(kTypes.begin(), kTypes.end(), type);
  if (found == kTypes.end()) throw Error(ErrorCode::kInternal, "a summary holds a tensor of another type");
  return static_cast<size_t>(found - kTypes.begin());
}

/// A few large tensors instead of thousands of small ones: the table (per call: sample, tap, number of tensors; per
/// tensor: type, rank, sizes), then the values by type.
std::vector<at::Tensor> pack(const std::vector<TapCall>& calls) {
  std::vector<int64_t> table;
  std::array<std::vector<at::Tensor>, 3> values;
  for (size_t i = 0; i < kTypes.size(); ++i) values[i].push_back(at::empty({0}, kTypes[i]));
  for (const auto& call : calls) {
    table.insert(table.end(), {call.sample, static_cast<int64_t>(call.tap), static_cast<int64_t>(call.summary.size())});
    for (const auto& tensor : call.summary) {
      const size_t type = type_index(tensor.scalar_type());
      table.insert(table.end(), {static_cast<int64_t>(type), tensor.dim()});
      table.insert(table.end(), tensor.sizes().begin(), tensor.sizes().end());
      values[type].push_back(tensor.reshape({-1}));
    }
  }
  std::vector<at::Tensor> result{at::tensor(table, at::kLong)};
  for (const auto& list : values) result.push_back(at::cat(list));
  return result;
}

void unpack(const std::vector<at::Tensor>& packed, std::vector<TapCall>& calls) {
  const auto table = packed.at(0).contiguous();
  const int64_t* next = table.data_ptr<int64_t>();
  const int64_t* end = next + table.numel();
  std::array<int64_t, 3> used{0, 0, 0};
  while (next != end) {
    TapCall call;
    call.sample = *next++;
    call.tap = static_cast<size_t>(*next++);
    for (int64_t left = *next++; left > 0; --left) {
      const auto type = static_cast<size_t>(*next++);
      const auto rank = *next++;
      const std::vector<int64_t> sizes(next, next + rank);
      next += rank;
      int64_t count = 1;
      for (int64_t size : sizes) count *= size;
      call.summary.push_back(packed.at(1 + type).narrow(0, used.at(type), count).view(sizes));
      used[type] += count;
    }
    calls.push_back(std::move(call));
  }
}

}  // namespace

std::vector<TapCall> exchange_calls(StatisticsExchange& exchange, const std::vector<TapCall>& mine) {
  std::vector<TapCall> calls;
  for (const auto& packed : exchange.all_gather(pack(mine))) unpack(packed, calls);
  std::stable_sort(calls.begin(), calls.end(), [](const auto& a, const auto& b) { return a.sample < b.sample; });
  return calls;
}

}  // namespace tsquant
