#include <fmt/format.h>

#include <algorithm>

#include "base/text_table.h"
#include "numerics/formats.h"
#include "tsquant/report.h"

namespace tsquant {

namespace {

struct TypeCounts {
  int64_t total = 0, quantized = 0, fused = 0, passes_codes = 0;
  std::map<std::string, int64_t> reasons;  ///< of the nodes left in float
};

bool passes_codes(const NodeRecord& node) { return !node.quantized && node.code == "passes_codes"; }

bool is_fused(const NodeRecord& node) { return !node.quantized && node.code == "fused"; }

/// Stands in a branch that the samples did not take.
bool is_not_reached(const NodeRecord& node) { return node.code == "not_reached"; }

/// Nothing is known about operators that did not run, and what only connects blocks is no operator.
bool does_count(const NodeRecord& node) { return !is_not_reached(node) && node.code != "control_flow"; }

std::map<std::string, TypeCounts> count_types(const Report& report) {
  std::map<std::string, TypeCounts> counts;
  for (const auto& node : report.nodes) {
    if (!does_count(node)) continue;
    auto& type = counts[node.type];
    ++type.total;
    if (node.quantized) {
      ++type.quantized;
    } else if (is_fused(node)) {
      ++type.fused;
    } else if (passes_codes(node)) {
      ++type.passes_codes;
    } else {
      ++type.reasons[fmt::format("{}: {}", node.code, node.reason)];
    }
  }
  return counts;
}

std::string operator_table(const Report& report) {
  TextTable table({"operator", "total", "quantized", "fused", "moves codes", "float", "why float"});
  table.align_right({1, 2, 3, 4, 5});
  for (const auto& [type, counts] : count_types(report)) {
    const int64_t in_float = counts.total - counts.quantized - counts.fused - counts.passes_codes;
    std::vector<std::string> first{type,
                                   std::to_string(counts.total),
                                   std::to_string(counts.quantized),
                                   std::to_string(counts.fused),
                                   std::to_string(counts.passes_codes),
                                   std::to_string(in_float),
                                   ""};
    bool is_first = true;
    for (const auto& [reason, count] : counts.reasons) {
      std::vector<std::string> row = is_first ? first : std::vector<std::string>(7);
      row[6] = counts.reasons.size() == 1 ? reason : fmt::format("{} x {}", count, reason);
      table.add(row);
      is_first = false;
    }
    if (is_first) table.add(first);
  }
  return table.text();
}

/// Lowered form: how many operators each integer kernel runs, and why others stayed Q/DQ around a float operator.
std::string kernel_table(const Report& report) {
  std::map<std::string, int64_t> kernels;
  for (const auto& node : report.nodes) {
    if (!node.kernel.empty()) ++kernels[node.kernel];
  }
  if (kernels.empty()) return "";
  std::vector<std::pair<std::string, int64_t>> order(kernels.begin(), kernels.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  TextTable table({"kernel", "operators"});
  table.align_right({1});
  for (const auto& [kernel, count] : order) table.add({kernel, std::to_string(count)});
  return "\n" + table.text();
}

int64_t count_values(const WeightRecord& weight) {
  int64_t count = 1;
  for (const int64_t size : weight.shape) count *= size;
  return count;
}

/// One precision of compressed weights, as a row of NNCF's table.
struct PrecisionShare {
  int64_t values = 0, layers = 0, ratio_values = 0, ratio_layers = 0;
};

std::string share_text(int64_t part, int64_t whole, int64_t layers, int64_t all_layers) {
  const double percent = whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
  return fmt::format("{:.0f}% ({} / {})", percent, layers, all_layers);
}

/// Bits of "int4_sym", "mxfp8_e4m3" and the like, for the order of rows; 0 for "float".
int bits_of_precision(const std::string& precision) {
  const FormatRow* row = find_format(precision);
  if (!row) row = find_format(precision.substr(0, precision.rfind('_')));
  return row ? row->info.bits : 0;
}

std::string weight_table(const Report& report) {
  std::map<std::pair<int, std::string>, PrecisionShare> shares;
  PrecisionShare all;
  for (const auto& weight : report.weights) {
    const std::string group = weight.group_size > 0      ? fmt::format(", group size {}", weight.group_size)
                              : weight.format == "float" ? ""
                                                         : ", per channel";
    auto& share = shares[{-bits_of_precision(weight.format), weight.format + group}];
    for (PrecisionShare* sum : {&share, &all}) {
      sum->values += count_values(weight);
      ++sum->layers;
      sum->ratio_values += weight.ratio_defining ? count_values(weight) : 0;
      sum->ratio_layers += weight.ratio_defining;
    }
  }
  TextTable table({"precision", "% of all parameters (layers)", "% of ratio-defining parameters (layers)"});
  for (const auto& [key, share] : shares) {
    table.add({key.second, share_text(share.values, all.values, share.layers, all.layers),
               share_text(share.ratio_values, all.ratio_values, share.ratio_layers, all.ratio_layers)});
  }
  return table.text();
}

/// What was skipped or replaced, each reason once.
std::string weight_remarks(const Report& report) {
  std::map<std::string, int64_t> counts;
  for (const auto& weight : report.weights) {
    for (const auto& remark : weight.remarks) ++counts[remark];
  }
  std::string text;
  for (const auto& [remark, count] : counts) text += fmt::format("{} weights: {}\n", count, remark);
  return text;
}

std::string footer(const Report& report) {
  std::string text;
  if (report.float_bytes > 0) {
    text += fmt::format("tensors {} -> {} ({:.3f}x)\n", human_bytes(report.float_bytes),
                        human_bytes(report.quantized_bytes),
                        static_cast<double>(report.quantized_bytes) / static_cast<double>(report.float_bytes));
  }
  std::vector<std::string> phases;
  for (const auto& phase : report.phases) phases.push_back(fmt::format("{} {:.2f} s", phase.name, phase.seconds));
  if (!phases.empty()) {
    text += fmt::format("time: {}; peak memory {}\n", fmt::join(phases, ", "),
                        human_bytes(report.phases.back().peak_bytes));
  }
  for (const auto& warning : report.warnings) text += "warning: " + warning + "\n";
  return text;
}

std::string totals(const Report& report) {
  int64_t total = 0, fused = 0, moves = 0, not_reached = 0;
  for (const auto& node : report.nodes) {
    total += does_count(node);
    fused += is_fused(node);
    moves += passes_codes(node);
    not_reached += is_not_reached(node);
  }
  const int64_t in_float = total - report.quantized_count() - fused - moves;
  std::string text = fmt::format("\n{} of {} operators quantized, {} fused, {} move codes, {} in float\n",
                                 report.quantized_count(), total, fused, moves, in_float);
  if (not_reached > 0) {
    text += fmt::format("{} more operators stand in branches that no sample took; they do not count\n", not_reached);
  }
  text += fmt::format("form {}{}{}\n", report.form, report.engine.empty() ? "" : ", engine " + report.engine,
                      report.samples < 0 ? "" : fmt::format(", {} calibration samples", report.samples));
  return text + footer(report);
}

}  // namespace

int64_t Report::quantized_count() const {
  return std::count_if(nodes.begin(), nodes.end(), [](const NodeRecord& node) { return node.quantized; });
}

std::string Report::summary() const {
  if (weights.empty()) return operator_table(*this) + kernel_table(*this) + totals(*this);
  return fmt::format("{}\nform {}, {} calibration samples\n{}{}", weight_table(*this), form, samples,
                     weight_remarks(*this), footer(*this));
}

}  // namespace tsquant
