#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "graph/node_lists.h"
#include "passes/rewrite_registry.h"
#include "support/files.h"
#include "support/thrown_error.h"
#include "unit/flows/damaged_net.h"
#include "unit/flows/small_net.h"

namespace tsquant::testing {
namespace {

namespace fs = std::filesystem;

QuantizedModel quantized(const QuantizePt2eOptions& options, Quantizer& quantizer, const torch::jit::Module& module) {
  auto model = Model::from(module);
  return quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
}

QuantizedModel quantized(const QuantizePt2eOptions& options) {
  OpenVINOQuantizer quantizer;
  return quantized(options, quantizer, net());
}

const RewriteRecord* record_of(const Report& report, const std::string& name) {
  const auto& records = report.rewrites;
  const auto found = std::find_if(records.begin(), records.end(), [&](const auto& r) { return r.name == name; });
  return found == records.end() ? nullptr : &*found;
}

TEST(RewritesOfARun, AreAllInTheReportInTheOrderOfTheRoad) {
  for (const OutputForm form : {OutputForm::kDecomposed, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    QuantizePt2eOptions options;
    options.form = form;
    options.cost = form == OutputForm::kLowered ? LoweringCost::kOff : options.cost;
    options.smooth_quant = true;
    options.channel_alignment = true;
    const Report report = quantized(options).report;
    const RewriteRow* last = nullptr;
    for (const auto& record : report.rewrites) {
      const RewriteRow* row = find_rewrite(record.name);
      ASSERT_NE(row, nullptr) << record.name;
      EXPECT_EQ(record.phase, phase_name(row->phase));
      EXPECT_TRUE(!last || row > last) << record.name << " after " << last->name;
      last = row;
    }
    for (const char* name : {"fold_batch_norm", "decompose_attention", "transform_for_annotation", "smooth_quant",
                             "align_channels", "correct_biases", "insert_qdq", "remove_identity", "drop_unread"}) {
      EXPECT_NE(record_of(report, name), nullptr) << name;
    }
    EXPECT_TRUE(record_of(report, "insert_qdq")->changed);
    EXPECT_GT(record_of(report, "insert_qdq")->seconds, 0);
    EXPECT_EQ(record_of(report, "to_decomposed_form") != nullptr, form == OutputForm::kDecomposed);
    EXPECT_EQ(record_of(report, "to_fake_quantize_form") != nullptr, form == OutputForm::kFakeQuantize);
    EXPECT_EQ(record_of(report, "lower_convolutions_and_linear") != nullptr, form == OutputForm::kLowered);
  }
}

TEST(RewritesOfARun, StepsOfLoweringCanBeLeftOut) {
  QuantizePt2eOptions options;
  options.form = OutputForm::kLowered;
  options.cost = LoweringCost::kOff;
  const auto convolutions = [](const QuantizedModel& result) {
    return nodes_of_kind(result.model.graph()->block(), {"aten::conv2d"}).size();
  };
  const auto whole = quantized(options);
  EXPECT_EQ(convolutions(whole), 0u);
  options.skip_passes = {"fuse_conv_add", "lower_convolutions_and_linear"};
  const auto less = quantized(options);
  EXPECT_EQ(convolutions(less), 2u);
  EXPECT_EQ(record_of(less.report, "fuse_conv_add"), nullptr);
  EXPECT_LE((output(whole) - output(less)).abs().max().item<double>(), 0.1);
}

TEST(RewritesOfARun, WhatTheResultNeedsCannotBeLeftOut) {
  bool read = false;
  const Dataset data(2, [&](int64_t) {
    read = true;
    return Sample{{images()[0]}, {}};
  });
  for (const char* name : {"insert_qdq", "to_decomposed_form", "restore_layout", "correct_biases", "drop_unread"}) {
    QuantizePt2eOptions options;
    options.skip_passes = {name};
    auto model = Model::from(net());
    OpenVINOQuantizer quantizer;
    const Error error = thrown_error([&] { quantize_pt2e(model, quantizer, data, options); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error.place(), "skip_passes");
    EXPECT_NE(error.message().find(name), std::string::npos) << error.what();
    EXPECT_NE(error.advice().find("sink_dequantize"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(read) << "refused before the data are read";
}

TEST(RewritesOfARun, DumpedGraphsChangeNothing) {
  QuantizePt2eOptions options;
  options.form = OutputForm::kLowered;
  const auto plain = quantized(options);
  options.dump_dir = temp_dir() + "/new/dump";
  const auto dumped = quantized(options);
  EXPECT_TRUE(at::equal(output(plain), output(dumped)));
  EXPECT_EQ(plain.report.to_json(/*per_channel=*/false), dumped.report.to_json(/*per_channel=*/false));

  std::set<std::string> written, expected{"000_captured.ir"};
  for (const auto& entry : fs::directory_iterator(options.dump_dir)) written.insert(entry.path().filename().string());
  for (size_t i = 0; i < all_rewrites().size(); ++i) {
    const RewriteRecord* record = record_of(dumped.report, all_rewrites()[i].name);
    if (!record || !record->changed) continue;
    const std::string number = std::to_string(i + 1);
    expected.insert(std::string(3 - number.size(), '0') + number + "_" + record->name + ".ir");
  }
  EXPECT_EQ(written, expected);
  EXPECT_EQ(bytes_of(options.dump_dir + "/" + *written.rbegin()), dumped.model.graph()->toString(false));
  EXPECT_EQ(bytes_of(options.dump_dir + "/000_captured.ir").find("quantize"), std::string::npos);
}

TEST(RewritesOfARun, AFolderThatCannotBeWrittenIsRefusedBeforeTheDataAreRead) {
  const std::string file = temp_dir() + "/file";
  std::ofstream(file) << "no folder";
  bool read = false;
  const Dataset data(2, [&](int64_t) {
    read = true;
    return Sample{{images()[0]}, {}};
  });
  QuantizePt2eOptions options;
  options.dump_dir = file + "/dump";
  auto model = Model::from(net());
  OpenVINOQuantizer quantizer;
  const Error error = thrown_error([&] { quantize_pt2e(model, quantizer, data, options); });
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_EQ(error.place(), options.dump_dir);
  EXPECT_NE(error.message().find("dumped graphs"), std::string::npos) << error.what();
  EXPECT_FALSE(read);
}

TEST(RewritesOfARun, AccuracyControlDumpsItsFirstQuantization) {
  Model model = Model::from(damaged_net(300));
  const Dataset validation = clear_pictures(model, 60, 6);
  const auto labels = labels_of(model, validation);
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  options.dump_dir = temp_dir() + "/dump";
  AccuracyControlOptions control;
  control.max_drop = 0.05;
  control.advanced_accuracy_restorer_parameters.ranking_subset_size = 20;
  OpenVINOQuantizer quantizer;
  const auto result = quantize_pt2e_with_accuracy_control(model, quantizer, pictures(24, 5), validation,
                                                          accuracy_and_outputs(labels), control, options);
  EXPECT_FALSE(result.reverted.empty());
  const RewriteRecord* restored = record_of(result.quantized.report, "restore_biases");
  ASSERT_NE(restored, nullptr) << "a variant gives reverted operators their biases back";
  for (const auto& entry : fs::directory_iterator(options.dump_dir)) {
    EXPECT_EQ(entry.path().filename().string().find("restore_biases"), std::string::npos) << entry.path();
  }
  const auto after = std::distance(all_rewrites().data(), find_rewrite("insert_qdq")) + 1;
  const std::string first = bytes_of(options.dump_dir + "/0" + std::to_string(after) + "_insert_qdq.ir");
  EXPECT_NE(first.find("aten::quantize_per_tensor"), std::string::npos);
}

/// Asks for a rewrite of the library and has one of its own.
class Asking : public OpenVINOQuantizer {
 public:
  explicit Asking(std::vector<std::string> names) : names_(std::move(names)) {}
  std::vector<std::string> rewrites_for_annotation() const override { return names_; }
  void transform_for_annotation(Model& model) override {
    buffers = model.module().hasattr("_tensor_constant_0");
    for (auto* node : nodes_of_kind(model.graph()->block(), {"aten::relu"})) {
      node->output()->replaceAllUsesWith(node->input(0));
      node->destroy();
    }
  }
  bool buffers = false;

 private:
  std::vector<std::string> names_;
};

torch::jit::Module with_number() {
  return define("def forward(self, x):\n    return torch.relu(torch.conv2d(x, self.w)) + 1.5\n",
                {{"w", at::randn({4, 3, 3, 3})}});
}

TEST(RewritesOfARun, AQuantizerAsksForRewritesAndHasItsOwn) {
  Asking quantizer({"scalars_to_tensors"});
  const auto result = quantized({}, quantizer, with_number());
  EXPECT_TRUE(quantizer.buffers) << "what it asks for comes first";
  EXPECT_TRUE(record_of(result.report, "scalars_to_tensors")->changed);
  EXPECT_TRUE(record_of(result.report, "transform_for_annotation")->changed);
  EXPECT_EQ(record_of(result.report, "decompose_attention"), nullptr) << "nobody asked";
  EXPECT_TRUE(nodes_of_kind(result.model.graph()->block(), {"aten::relu"}).empty());

  QuantizePt2eOptions options;
  options.skip_passes = {"scalars_to_tensors"};
  Asking other({"scalars_to_tensors"});
  quantized(options, other, with_number());
  EXPECT_FALSE(other.buffers);
}

TEST(RewritesOfARun, AQuantizerCannotAskForAnything) {
  for (const char* name : {"decompose_everything", "insert_qdq", "fold_batch_norm"}) {
    Asking quantizer({name});
    const Error error = thrown_error([&] { quantized({}, quantizer, with_number()); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(error.message().find(name), std::string::npos) << error.what();
    EXPECT_NE(error.advice().find("decompose_attention, scalars_to_tensors"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tsquant::testing
