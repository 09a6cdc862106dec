#pragma once

#include <exception>
#include <map>
#include <string>
#include <vector>

namespace tsquant {

class StatisticsExchange;

/// The texts of all ranks in rank order; without an exchange only this one.
std::vector<std::string> gather_texts(StatisticsExchange* exchange, const std::string& mine);

/// Throws the error of the lowest rank that has one, on every rank, so that none waits for a rank that gave up.
/// Returns when no rank has an error. Without an exchange it throws `mine`, if any.
void throw_together(StatisticsExchange* exchange, const std::exception_ptr& mine);

/// Compares with rank 0. @throws Error kCalibration on every rank: names the first rank and key that differ
void require_equal_ranks(StatisticsExchange& exchange, const std::map<std::string, std::string>& keys);

/// Keys that start so name options of the caller. They may differ; they are told when they explain why the keys
/// "points" or "extra_statistics" differ, which are digests of what those options decided.
constexpr const char* kSettingPrefix = "setting.";

/// @param whose  who differ, for the message: "the statistics and this run"
/// @throws Error kCalibration: names every key that differs, with both values; for digests the settings behind them
void require_equal_keys(const std::map<std::string, std::string>& theirs,
                        const std::map<std::string, std::string>& ours, const std::string& whose,
                        const std::string& place);

}  // namespace tsquant
