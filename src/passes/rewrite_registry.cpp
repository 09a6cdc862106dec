#include "passes/rewrite_registry.h"

#include <fmt/format.h>

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant {

namespace {

std::string optional_names() {
  std::vector<std::string> names;
  for (const auto& row : all_rewrites()) {
    if (row.need == RewriteNeed::kOptional) names.push_back(row.name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message, "skip_passes",
              "those that can be left out are " + optional_names());
}

}  // namespace

const std::vector<RewriteRow>& all_rewrites() {
  static const std::vector<RewriteRow> rows = {
#define TSQUANT_ROW(name, phase, need, check, pass) \
  {#name, RewritePhase::phase, RewriteNeed::need, RewriteCheck::check, pass},
#define TSQUANT_PASS(name, phase, need, check) TSQUANT_ROW(name, phase, need, check, name)
#define TSQUANT_LOWERING_STEP(name, phase, need, check) TSQUANT_ROW(name, phase, need, check, nullptr)
#define TSQUANT_REWRITE(name, phase, need, check) TSQUANT_ROW(name, phase, need, check, nullptr)
#include "passes/registry.inc"
#undef TSQUANT_ROW
  };
  return rows;
}

const RewriteRow* find_rewrite(const std::string& name) {
  const auto& rows = all_rewrites();
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return name == r.name; });
  return row == rows.end() ? nullptr : &*row;
}

const char* phase_name(RewritePhase phase) {
  switch (phase) {
    case RewritePhase::kFloat:
      return "float";
    case RewritePhase::kQuantizer:
      return "quantizer";
    case RewritePhase::kAlgorithm:
      return "algorithm";
    case RewritePhase::kInsertion:
      return "insertion";
    case RewritePhase::kForm:
      return "form";
    case RewritePhase::kLowering:
      return "lowering";
    case RewritePhase::kFinish:
      return "finish";
    case RewritePhase::kStrip:
      return "strip";
  }
  return "unknown";
}

void check_skipped(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    const RewriteRow* row = find_rewrite(name);
    if (!row) refuse(fmt::format("there is no rewrite \"{}\"", name));
    if (row->need == RewriteNeed::kRequired) refuse(fmt::format("the rewrite {} cannot be left out", name));
  }
}

}  // namespace tsquant
