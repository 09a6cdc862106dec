#pragma once

#include <gtest/gtest.h>
#include <tsquant/data_files.h>

#include <string>

#include "support/support.h"

namespace tsquant::testing {

/// Tests of the kit's models: skipped where it is not.
class WithKit : public ::testing::Test {
 protected:
  void SetUp() override {
    kit_ = kit_dir();
    if (kit_.empty()) GTEST_SKIP() << "the kit is not here (set TSQUANT_KIT)";
  }

  /// Images as its classifiers take them, with labels.
  DataFile images(const std::string& file, int64_t batch_size, int64_t limit = DataOptions().limit) const {
    DataOptions options;
    options.inputs = {"images"};
    options.labels = "labels";
    options.scale = 255;
    options.mean = {0.485, 0.456, 0.406};
    options.stddev = {0.229, 0.224, 0.225};
    options.batch_size = batch_size;
    options.limit = limit;
    return load_data(kit_ + "/data/" + file + ".pt", options);
  }

  std::string kit_;
};

}  // namespace tsquant::testing
