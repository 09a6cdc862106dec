#pragma once

#include <string>
#include <vector>

#include "cli/options.h"

namespace tsquant::cli {

/// `--more-data FILE[:VALUE[,VALUE]]`, repeatable: further files of samples with their own `--scalar` values, for
/// models that take another path for other data (sampling rates, languages).
void add_more_data_option(CLI::App& app, std::vector<std::string>& files);

/// The samples of `--data` and of the further files. The first `subset_size` are shared out evenly over the files; each
/// file's samples stay together and in their order, so that models with memory see sequences.
/// @throws Error kDataset, kInvalidArgument
Dataset with_more_data(const Dataset& first, const DataArgs& args, const std::vector<std::string>& files,
                       int64_t subset_size);

}  // namespace tsquant::cli
