#include "quantizers/openvino/compression_modes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <vector>

#include "numerics/level_tables.h"
#include "options/words.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

using Mode = CompressWeightsMode;

const std::vector<ModeRow>& mode_table() {
  constexpr auto kSym = QuantizationScheme::kSymmetric, kAsym = QuantizationScheme::kAsymmetric;
  static const std::vector<ModeRow> rows{
      {Mode::kInt8Asym, Format::kInt8, kAsym, -1, BackupMode::kInt8Asym},
      {Mode::kInt8Sym, Format::kInt8, kSym, -1, BackupMode::kInt8Sym},
      {Mode::kInt8, Format::kInt8, kAsym, -1, BackupMode::kInt8Asym},
      {Mode::kInt4Sym, Format::kInt4, kSym, 128, BackupMode::kInt8Asym},
      {Mode::kInt4Asym, Format::kInt4, kAsym, 128, BackupMode::kInt8Asym},
      {Mode::kInt3Sym, Format::kInt3, kSym, 128, BackupMode::kInt8Asym},
      {Mode::kInt3Asym, Format::kInt3, kAsym, 128, BackupMode::kInt8Asym},
      {Mode::kInt2Sym, Format::kInt2, kSym, 128, BackupMode::kInt8Asym},
      {Mode::kInt2Asym, Format::kInt2, kAsym, 128, BackupMode::kInt8Asym},
      {Mode::kNf4, Format::kNf4, kSym, 128, BackupMode::kInt8Asym},
      {Mode::kE2M1, Format::kE2M1, kSym, 32, BackupMode::kInt8Asym},
      {Mode::kFp4, Format::kFp4, kSym, 128, BackupMode::kFp8E4M3},
      {Mode::kFp8E4M3, Format::kF8E4M3, kSym, 128, BackupMode::kFp8E4M3},
      {Mode::kMxFp4, Format::kMxFp4, kSym, 32, BackupMode::kMxFp8E4M3},
      {Mode::kMxFp8E4M3, Format::kMxF8E4M3, kSym, 32, BackupMode::kMxFp8E4M3},
      {Mode::kNvFp4, Format::kNvFp4, kSym, 16, BackupMode::kInt8Asym},
      {Mode::kCodebook, Format::kCodebook4, kSym, -1, BackupMode::kInt8Asym},
      {Mode::kAdaptiveCodebook, Format::kCodebook4, kSym, -1, BackupMode::kInt8Asym},
      {Mode::kCb4, Format::kCb4, kSym, -1, BackupMode::kInt8Asym},
  };
  return rows;
}

[[noreturn]] void refuse(const std::string& what, const std::string& option, const std::string& advice) {
  throw Error(ErrorCode::kInvalidArgument, what, option, advice);
}

}  // namespace

const ModeRow& mode_row(CompressWeightsMode mode) {
  for (const ModeRow& row : mode_table()) {
    if (row.mode == mode) return row;
  }
  throw Error(ErrorCode::kInternal, "a mode of weight compression has no row");
}

bool is_int8(CompressWeightsMode mode) {
  return mode == Mode::kInt8Asym || mode == Mode::kInt8Sym || mode == Mode::kInt8;
}

QuantizationSpec primary_spec(CompressWeightsMode mode, const std::vector<float>& codebook) {
  const ModeRow& row = mode_row(mode);
  QuantizationSpec spec;
  spec.format = row.format;
  spec.mode = row.scheme;
  spec.formula = QParamsFormula::kNncfCompression;
  if (mode == Mode::kCodebook || (mode == Mode::kAdaptiveCodebook && !codebook.empty())) {
    spec.format = codebook_format(codebook.size());
    spec.codebook = codebook;
  } else if (mode == Mode::kAdaptiveCodebook) {
    spec.codebook.assign(std::begin(kCb4Levels), std::end(kCb4Levels));
  }
  return spec;
}

c10::optional<QuantizationSpec> backup_spec(BackupMode mode) {
  switch (mode) {
    case BackupMode::kNone:
      return c10::nullopt;
    case BackupMode::kInt8Sym:
      return primary_spec(Mode::kInt8Sym, {});
    case BackupMode::kInt8Asym:
      return primary_spec(Mode::kInt8Asym, {});
    case BackupMode::kFp8E4M3:
      return primary_spec(Mode::kFp8E4M3, {});
    case BackupMode::kMxFp8E4M3:
      return primary_spec(Mode::kMxFp8E4M3, {});
  }
  return c10::nullopt;
}

int64_t backup_group_size(BackupMode mode, int64_t primary) {
  if (mode == BackupMode::kFp8E4M3) return primary;
  return mode == BackupMode::kMxFp8E4M3 ? format_info(Format::kMxF8E4M3).group_size : -1;
}

void check_codebook(const WeightsOnlyOptions& o) {
  if (o.mode == Mode::kCodebook && o.codebook.empty()) {
    refuse("the mode codebook needs levels", "codebook", "give at least 2, or choose cb4");
  }
  if (o.codebook.empty()) return;
  const auto not_less = [](float a, float b) { return !(a < b); };  // NaN is not less either
  const bool ascending = std::adjacent_find(o.codebook.begin(), o.codebook.end(), not_less) == o.codebook.end();
  const bool finite = std::isfinite(o.codebook.front()) && std::isfinite(o.codebook.back());
  if (o.codebook.size() < 2 || !ascending || !finite) {
    refuse("a codebook must have at least 2 finite levels in strictly ascending order", "codebook", "sort them");
  }
}

void check_group_size(const WeightsOnlyOptions& o) {
  if (o.group_size && (*o.group_size == 0 || *o.group_size < -1)) {
    refuse(fmt::format("group_size is {}", *o.group_size), "group_size", "use a positive number, or -1 for channels");
  }
  const std::string mode = word_of(words<Mode>(), o.mode);
  if (is_int8(o.mode) && o.group_size.value_or(-1) != -1) {
    refuse(mode + " has one scale per channel", "group_size", "leave it out, or choose another mode");
  }
  const int64_t fixed = format_info(mode_row(o.mode).format).group_size;
  if (fixed == 0) return;
  if (o.group_size.value_or(fixed) != fixed) {
    refuse(fmt::format("{} has groups of {}, not of {}", mode, fixed, *o.group_size), "group_size", "leave it out");
  }
  if (o.group_size_fallback_mode == GroupSizeFallbackMode::kAdjust) {
    refuse(fmt::format("the groups of {} cannot be adjusted", mode), "group_size_fallback_mode", "use ignore or error");
  }
}

void check_weights_only(const WeightsOnlyOptions& options) {
  check_codebook(options);
  check_group_size(options);
}

}  // namespace tsquant::openvino
