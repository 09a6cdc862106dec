// Bad input: each case checks the kind of the error, its message, and that no output file is left behind.
#include <ATen/core/op_registration/op_registration.h>
#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {
namespace {

namespace fs = std::filesystem;
using testing::define;
using testing::temp_dir;

torch::jit::Module linear_module() {
  torch::manual_seed(1);
  return define("def forward(self, x):\n  return torch.relu(torch.linear(x, self.w))\n", {{"w", at::randn({4, 8})}});
}

Dataset rows(int64_t count = 4) { return Dataset::from_rows({at::randn({count, 8})}, 1); }

/// Runs `action`, which must throw an Error of this code whose text holds every one of `words`.
template <typename Action>
void expect_error(ErrorCode code, const std::vector<std::string>& words, Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const auto& word : words) EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    return;
  }
  ADD_FAILURE() << "no error";
}

void quantize_to(const std::string& output, torch::jit::Module module, const Dataset& data,
                 const QuantizePt2eOptions& options = {}) {
  Model model = Model::from(module);
  OpenVINOQuantizer quantizer;
  quantize_pt2e(model, quantizer, data, options).save(output);
}

/// A quantization that must fail and leave its folder empty.
void expect_failure(ErrorCode code, const std::vector<std::string>& words, torch::jit::Module module,
                    const Dataset& data, const QuantizePt2eOptions& options = {}) {
  const std::string folder = temp_dir();
  expect_error(code, words, [&] { quantize_to(folder + "/out.pt", module, data, options); });
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(BadInput, ModelThatIsAlreadyQuantized) {
  for (const auto form : {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize}) {
    QuantizePt2eOptions options;
    options.form = form;
    const std::string path = temp_dir() + "/once.pt";
    quantize_to(path, linear_module(), rows(), options);
    expect_failure(ErrorCode::kUnsupportedModel,
                   {"already quantized: it calls ", "quantize_per_", "give the float model"}, torch::jit::load(path),
                   rows());
  }
}

TEST(BadInput, MissingFile) {
  expect_error(ErrorCode::kModelLoad, {"no such file", "/no/such/model.pt"}, [] { Model::load("/no/such/model.pt"); });
}

TEST(BadInput, FolderInsteadOfAFile) {
  expect_error(ErrorCode::kModelLoad, {"folder"}, [] { Model::load(temp_dir()); });
}

TEST(BadInput, TruncatedArchive) {
  const std::string folder = temp_dir(), whole = folder + "/whole.pt", cut = folder + "/cut.pt";
  linear_module().save(whole);
  const auto size = fs::file_size(whole);
  for (const double part : {0.0, 0.1, 0.5, 0.9, 0.999}) {
    fs::copy_file(whole, cut, fs::copy_options::overwrite_existing);
    fs::resize_file(cut, static_cast<uintmax_t>(static_cast<double>(size) * part));
    expect_error(ErrorCode::kModelLoad, {cut}, [&] { Model::load(cut); });
  }
}

TEST(BadInput, FlippedBytes) {
  const std::string folder = temp_dir(), whole = folder + "/whole.pt", damaged = folder + "/damaged.pt";
  linear_module().save(whole);
  std::ifstream file(whole, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  for (size_t at = 0; at < bytes.size(); at += 97) {
    std::string copy = bytes;
    copy[at] = static_cast<char>(copy[at] ^ 0x5a);
    std::ofstream(damaged, std::ios::binary) << copy;
    try {
      Model::load(damaged);  // a flipped weight or comment is still a model
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kModelLoad) << at << ": " << error.what();
    }
  }
}

TEST(BadInput, ZipThatIsNoTorchScript) {
  const std::string path = temp_dir() + "/state.pt";
  const auto bytes = torch::jit::pickle_save(at::ones({3}));
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  expect_error(ErrorCode::kModelLoad, {"no TorchScript", "torch.jit.save"}, [&] { Model::load(path); });
  const std::string text = temp_dir() + "/text.pt";
  std::ofstream(text) << "not a zip file at all";
  expect_error(ErrorCode::kModelLoad, {"no archive"}, [&] { Model::load(text); });
}

TEST(BadInput, CustomOperatorsThatAreNotLoaded) {
  const std::string path = temp_dir() + "/custom.pt";
  {
    const auto library = c10::RegisterOperators().op(
        "tsquant_test::mystery(Tensor x) -> Tensor",
        c10::RegisterOperators::options().catchAllKernel([](at::Tensor x) -> at::Tensor { return x; }));
    Model model = Model::from(linear_module());
    auto graph = model.graph();
    auto* last = graph->outputs().at(0)->node();
    auto* custom = graph->create(c10::Symbol::fromQualString("tsquant_test::mystery"), {last->output()});
    custom->insertAfter(last);
    last->output()->replaceAllUsesAfterNodeWith(custom, custom->output());
    model.save(path);
  }
  expect_error(ErrorCode::kModelLoad, {"tsquant_test::mystery", "load the library"}, [&] { Model::load(path); });
}

TEST(BadInput, WrongShapeAtCalibration) {
  expect_failure(ErrorCode::kDataset, {"8", "shape"}, linear_module(), Dataset::from_tensors({at::randn({1, 7})}));
  // Also when only a later sample is wrong.
  expect_failure(ErrorCode::kDataset, {"shape"}, linear_module(),
                 Dataset::from_tensors({at::randn({1, 8}), at::randn({1, 7})}));
}

TEST(BadInput, WrongDtypeAtCalibration) {
  expect_failure(ErrorCode::kDataset, {"dtype"}, linear_module(),
                 Dataset::from_tensors({at::ones({1, 8}, c10::kLong)}));
}

TEST(BadInput, WrongNumberOfArguments) {
  const Dataset two(1, [](int64_t) { return Sample{{at::ones({1, 8}), at::ones({1, 8})}, {}}; });
  expect_failure(ErrorCode::kDataset, {"forward"}, linear_module(), two);
}

TEST(BadInput, EmptyDataSet) {
  expect_failure(ErrorCode::kDataset, {"empty"}, linear_module(), Dataset::from_tensors({}));
}

TEST(BadInput, SubsetSizeZero) {
  QuantizePt2eOptions options;
  options.subset_size = 0;
  expect_failure(ErrorCode::kInvalidArgument, {"subset_size"}, linear_module(), rows(), options);
}

TEST(BadInput, NanAndInfinityInTheData) {
  for (const float value : {NAN, INFINITY}) {
    auto data = at::randn({4, 8});
    data[2][3] = value;
    expect_failure(ErrorCode::kCalibration, {"x"}, linear_module(), Dataset::from_rows({data}, 1));
  }
}

TEST(BadInput, NothingToQuantize) {
  const auto module = define("def forward(self, x):\n  return torch.sin(x)\n");
  expect_failure(ErrorCode::kUnsupportedModel, {"nothing", "sin", "allow_empty"}, module, rows());
  QuantizePt2eOptions options;
  options.allow_empty = true;
  const std::string output = temp_dir() + "/out.pt";
  quantize_to(output, module, rows(), options);
  EXPECT_TRUE(fs::exists(output));
}

TEST(BadInput, UnwritableOutput) {
  const std::string folder = temp_dir();
  expect_error(ErrorCode::kIo, {"no_folder/out.pt"},
               [&] { quantize_to(folder + "/no_folder/out.pt", linear_module(), rows()); });
  // A folder of the output's name cannot be replaced by a file.
  fs::create_directories(folder + "/out.pt/inside");
  expect_error(ErrorCode::kIo, {"out.pt"}, [&] { quantize_to(folder + "/out.pt", linear_module(), rows()); });
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator{}), 1);
}

TEST(BadInput, UnknownEngine) {
  QuantizePt2eOptions options;
  options.form = OutputForm::kLowered;
  options.engine = "abacus";
  expect_failure(ErrorCode::kBackendUnavailable, {"abacus", "tsquant"}, linear_module(), rows(), options);
}

TEST(BadInput, EngineForAFormWithoutOne) {
  QuantizePt2eOptions options;
  options.engine = "onednn";
  expect_failure(ErrorCode::kInvalidArgument, {"engine"}, linear_module(), rows(), options);
}

TEST(BadInput, CancelledRunKeepsTheOldFile) {
  const std::string folder = temp_dir(), output = folder + "/out.pt";
  std::ofstream(output) << "old";
  QuantizePt2eOptions options;
  options.progress = [](const std::string&, int64_t done, int64_t) { return done < 2; };
  expect_error(ErrorCode::kCancelled, {}, [&] { quantize_to(output, linear_module(), rows(), options); });
  std::string content;
  std::ifstream(output) >> content;
  EXPECT_EQ(content, "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator{}), 1);
}

TEST(BadInput, ModuleWithoutForward) {
  const auto module = define("def other(self, x):\n  return x\n");
  expect_error(ErrorCode::kUnsupportedModel, {"forward"}, [&] { Model::from(module); });
}

TEST(BadInput, TrainingModeIsRefusedWhenAsked) {
  auto module = linear_module();
  module.train(true);
  CaptureOptions options;
  options.training_mode = TrainingMode::kRefuse;
  expect_error(ErrorCode::kUnsupportedModel, {"training"}, [&] { Model::from(module, options); });
  EXPECT_FALSE(Model::from(module).warnings().empty());
}

TEST(BadInput, UnknownPass) {
  QuantizePt2eOptions options;
  options.skip_passes = {"fold_everything"};
  expect_failure(ErrorCode::kInvalidArgument, {"fold_everything", "fold_batch_norm"}, linear_module(), rows(), options);
}

}  // namespace
}  // namespace tsquant
