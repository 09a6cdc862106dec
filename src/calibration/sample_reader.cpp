#include "calibration/sample_reader.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <exception>

#include "calibration/fingerprint.h"
#include "calibration/rank_agreement.h"
#include "observers/tensor_rows.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr size_t kDigits = 40;  ///< of one fingerprint

void check_finite(const c10::IValue& value, const std::string& name, int64_t index) {
  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    if (!tensor.defined() || !tensor.is_floating_point() || tensor.numel() == 0) return;
    const auto rows = to_rows(tensor, c10::nullopt, false).values;
    if (row_extrema(rows).finite()) return;
    const auto bad = count_non_finite(rows);
    throw Error(ErrorCode::kCalibration,
                fmt::format("calibration sample {} holds {} NaN and {} infinite values", index, bad.nan, bad.infinite),
                name, "remove the sample or repair the data");
  }
  if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) check_finite(item, name, index);
  } else if (value.isTuple()) {
    for (const auto& item : value.toTupleRef().elements()) check_finite(item, name, index);
  } else if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict()) check_finite(item.value(), name, index);
  }
}

}  // namespace

SampleReader::SampleReader(const Model& model, const Dataset& dataset, int64_t total, bool hash)
    : dataset_(dataset), names_(model.input_names()), hashes_(hash ? static_cast<size_t>(total) : 0) {}

Sample SampleReader::get(int64_t index) {
  auto sample = dataset_.get(index);
  for (size_t i = 0; i < sample.args.size(); ++i) {
    check_finite(sample.args[i], i < names_.size() ? names_[i] : fmt::format("argument {}", i), index);
  }
  for (const auto& [name, value] : sample.kwargs) check_finite(value, name, index);
  if (!hashes_.empty()) hashes_.at(static_cast<size_t>(index)) = fingerprint(sample);
  return sample;
}

std::string SampleReader::data_key(StatisticsExchange* exchange) {
  const auto ranks = static_cast<size_t>(exchange ? exchange->size() : 1);
  std::string mine;
  std::exception_ptr failure;
  try {
    for (auto i = static_cast<size_t>(exchange ? exchange->rank() : 0); i < hashes_.size(); i += ranks) {
      if (hashes_[i].empty()) get(static_cast<int64_t>(i));
      mine += hashes_[i];
    }
  } catch (...) {
    failure = std::current_exception();
  }
  throw_together(exchange, failure);
  const auto texts = gather_texts(exchange, mine);
  Digest digest;
  for (size_t i = 0; i < hashes_.size(); ++i) digest.add(texts[i % ranks].substr(i / ranks * kDigits, kDigits));
  return fmt::format("{} samples, {}", hashes_.size(), digest.text());
}

}  // namespace tsquant
