#include "tsquant/data_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using testing::data_file;
using testing::temp_dir;

at::Tensor images() { return at::arange(48, c10::kByte).view({4, 3, 2, 2}); }
at::Tensor labels() { return at::tensor({3, 1, 2, 0}, c10::kLong); }

DataOptions named(std::vector<std::string> inputs, const std::string& labels = "") {
  DataOptions options;
  options.inputs = std::move(inputs);
  options.labels = labels;
  return options;
}

/// Loads and returns the error's text; fails when there is none or it has another code.
std::string dataset_error(const std::string& path, const DataOptions& options = {},
                          ErrorCode code = ErrorCode::kDataset) {
  try {
    load_data(path, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error for " << path;
  return "";
}

std::string save_module(const std::vector<std::pair<std::string, at::Tensor>>& buffers) {
  torch::jit::Module module("Data");
  for (const auto& [name, tensor] : buffers) module.register_buffer(name, tensor);
  const std::string path = temp_dir() + "/data.pt";
  module.save(path);
  return path;
}

class GenuineFiles : public ::testing::TestWithParam<std::tuple<std::string, std::string, std::string>> {};

TEST_P(GenuineFiles, HoldTheSameImagesAndLabels) {
  const auto& [file, input, label] = GetParam();
  const auto data = load_data(data_file("io/" + file), named({input}, label));
  EXPECT_TRUE(at::equal(data.inputs.at(0), images()));
  if (!label.empty()) {
    EXPECT_TRUE(at::equal(data.labels, labels()));
  }
  EXPECT_EQ(data.dataset.length(), 4);
  EXPECT_TRUE(at::equal(data.dataset.get(2).args.at(0).toTensor(), images().narrow(0, 2, 1)));
}

INSTANTIATE_TEST_SUITE_P(Formats, GenuineFiles,
                         ::testing::Values(std::make_tuple("stored.npz", "images", "labels"),
                                           std::make_tuple("deflated.npz", "images", "labels"),
                                           std::make_tuple("dict.pt", "images", "labels"),
                                           std::make_tuple("tuple.pt", "0", "1"),
                                           std::make_tuple("tensor.pt", "tensor", ""),
                                           std::make_tuple("list.pt", "tensor", "")));

TEST(DataFiles, NpyKeepsValuesShapeAndOrder) {
  const auto plain = load_data(data_file("io/float.npy"), {});
  EXPECT_TRUE(at::equal(plain.inputs.at(0), at::arange(6, c10::kFloat).view({2, 3}) / 4));
  const auto fortran = load_data(data_file("io/fortran.npy"), {});
  EXPECT_TRUE(at::equal(fortran.inputs.at(0), at::arange(6, c10::kDouble).view({2, 3})));
}

TEST(DataFiles, RefusesWhatItCannotRead) {
  EXPECT_NE(dataset_error(data_file("io/big_endian.npy")).find(">f4"), std::string::npos);
  EXPECT_NE(dataset_error(data_file("io/legacy.pt")).find("torch.save"), std::string::npos);
  EXPECT_NE(dataset_error("/no/such/file.pt").find("no such data file"), std::string::npos);
  const std::string text = temp_dir() + "/text.pt";
  std::ofstream(text) << "hello";
  EXPECT_NE(dataset_error(text).find("no PyTorch data file"), std::string::npos);
}

/// A .npy file of version 2 with 96 bytes of data.
std::string write_npy(const std::string& header) {
  const std::string path = temp_dir() + "/array.npy";
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x02\0", 8);
  for (int shift = 0; shift < 32; shift += 8) file << static_cast<char>(header.size() >> shift & 0xff);
  file << header << std::string(96, '\0');
  return path;
}

TEST(DataFiles, HeadersOfArraysAreReadStrictly) {
  const auto write = [](const std::string& shape) {
    return write_npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }\n");
  };
  EXPECT_EQ(load_data(write("(4, 6)"), {}).inputs.at(0).sizes(), (std::vector<int64_t>{4, 6}));
  EXPECT_EQ(load_data(write("( 4L ,6L)"), {}).inputs.at(0).sizes(), (std::vector<int64_t>{4, 6}));
  EXPECT_EQ(load_data(write("(24,)"), {}).inputs.at(0).sizes(), (std::vector<int64_t>{24}));
  for (const std::string shape : {"(-4, 6)", "(4, -6)", "(4; 6)", "(4 6)", "(4, 6", "4, 6", "(x)", "(,)",
                                  "(4, 6, 99999999999999999999)", "(999999999999999999, 999999999999999999)"}) {
    EXPECT_NE(dataset_error(write(shape)).find("header is damaged"), std::string::npos) << shape;
  }
  EXPECT_NE(dataset_error(write("(" + std::string(60000, ' ') + "4, 6)")).find("header is damaged"), std::string::npos);
  EXPECT_NE(dataset_error(write_npy("{'descr': '" + std::string(60000, '<') + "'}")).find("header is damaged"),
            std::string::npos);
  EXPECT_NE(dataset_error(write_npy("{'descr': '<f4', 'shape': (4, 6)}")).find("header is damaged"), std::string::npos);
  EXPECT_NE(dataset_error(write_npy("{'descr'")).find("header is damaged"), std::string::npos);
  EXPECT_NE(dataset_error(std::string(5000, 'x')).find("no such data file"), std::string::npos);
}

TEST(DataFiles, EveryTruncationIsAnErrorAndNotACrash) {
  const std::string folder = temp_dir();
  for (const std::string name : {"deflated.npz", "stored.npz", "float.npy"}) {
    std::ifstream file(data_file("io/" + name), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    for (size_t size = 0; size + 1 < bytes.size(); size += 7) {
      const std::string path = folder + "/" + std::to_string(size) + name;
      std::ofstream(path, std::ios::binary) << bytes.substr(0, size);
      EXPECT_THROW(load_data(path, name == "float.npy" ? DataOptions{} : named({"images"})), Error) << path;
    }
  }
}

TEST(DataFiles, ModuleBuffersAndTheListOfNames) {
  const auto path = save_module({{"images", images()}, {"labels", labels()}});
  EXPECT_TRUE(at::equal(load_data(path, named({"images"}, "labels")).labels, labels()));
  const auto unknown = dataset_error(path, named({"pictures"}));
  EXPECT_NE(unknown.find("pictures"), std::string::npos);
  EXPECT_NE(unknown.find("images Byte [4, 3, 2, 2]; labels Long [4]"), std::string::npos) << unknown;
  EXPECT_NE(dataset_error(path).find("--inputs"), std::string::npos);
  // With the labels named, only one tensor is left to be the input.
  EXPECT_TRUE(at::equal(load_data(path, named({}, "labels")).inputs.at(0), images()));
}

TEST(DataFiles, BatchesLimitAndSeveralInputs) {
  const auto path = save_module({{"a", images()}, {"b", labels()}});
  auto options = named({"a", "b"});
  options.batch_size = 3;
  const auto data = load_data(path, options);
  EXPECT_EQ(data.dataset.length(), 2);
  EXPECT_EQ(data.dataset.batch_size(), 3);
  EXPECT_EQ(data.dataset.get(1).args.at(0).toTensor().size(0), 1);
  EXPECT_TRUE(at::equal(data.dataset.get(1).args.at(1).toTensor(), labels().narrow(0, 3, 1)));
  options.limit = 2;
  EXPECT_EQ(load_data(path, options).dataset.length(), 1);
  options.batch_size = 0;
  dataset_error(path, options, ErrorCode::kInvalidArgument);
}

TEST(DataFiles, ScaleAndNormalise) {
  const auto path = save_module({{"images", images()}, {"ids", labels()}});
  auto options = named({"images", "ids"});
  options.mean = {0.1, 0.2, 0.3};
  options.stddev = {0.5, 0.25, 2};
  const auto mean = at::tensor({0.1f, 0.2f, 0.3f}).view({1, 3, 1, 1});
  const auto deviation = at::tensor({0.5f, 0.25f, 2.f}).view({1, 3, 1, 1});
  const auto rows = images().narrow(0, 1, 1).to(c10::kFloat);
  const auto first = [&] { return load_data(path, options).dataset.get(1).args; };
  // Bytes are divided by 255 when they are normalised and no scale was given.
  EXPECT_TRUE(at::equal(first().at(0).toTensor(), (rows / 255.0 - mean) / deviation));
  EXPECT_TRUE(at::equal(first().at(1).toTensor(), labels().narrow(0, 1, 1)));  // integers stay as they are
  options.scale = 2;
  EXPECT_TRUE(at::equal(first().at(0).toTensor(), (rows / 2.0 - mean) / deviation));
  options.mean = options.stddev = {};
  EXPECT_TRUE(at::equal(first().at(0).toTensor(), rows / 2.0));
  options.scale = 0;
  EXPECT_EQ(first().at(0).toTensor().scalar_type(), c10::kByte);
  options.mean = options.stddev = {1, 1};
  EXPECT_THROW(first(), Error);
  options.stddev = {1, 0};
  dataset_error(path, options, ErrorCode::kInvalidArgument);
}

TEST(DataFiles, TokenStreamsBecomeWindowsWithTheNextTokens) {
  const auto path = save_module({{"tokens", at::arange(11, c10::kLong)}});
  auto options = named({"tokens"});
  options.window = 3;
  const auto data = load_data(path, options);
  EXPECT_TRUE(at::equal(data.inputs.at(0), at::arange(9, c10::kLong).view({3, 3})));
  EXPECT_TRUE(at::equal(data.labels, at::arange(1, 10, c10::kLong).view({3, 3})));
  options.window = 11;
  EXPECT_NE(dataset_error(path, options).find("too few"), std::string::npos);
  options.window = 0;
  EXPECT_EQ(load_data(path, options).dataset.length(), 11);
}

TEST(DataFiles, EmptyDataAndWrongLabelCount) {
  EXPECT_NE(dataset_error(save_module({{"x", at::empty({0, 3})}})).find("empty"), std::string::npos);
  const auto path = save_module({{"x", at::zeros({4, 3})}, {"y", at::zeros({3}, c10::kLong)}});
  EXPECT_NE(dataset_error(path, named({"x"}, "y")).find("4 samples, but 3 labels"), std::string::npos);
}

TEST(DataFiles, SamplesOfAListMustFitTogether) {
  const std::string path = temp_dir() + "/list.pt";
  const auto bytes = torch::jit::pickle_save(std::vector<at::Tensor>{at::zeros({1, 3}), at::zeros({1, 4})});
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_NE(dataset_error(path).find("differ in shape"), std::string::npos);
}

TEST(DataFiles, ImageFolder) {
  const std::string folder = temp_dir();
  const auto write = [&](const std::string& name, int size, unsigned char red) {
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file << "P6 " << size << " " << size << " 255\n";
    for (int i = 0; i < size * size; ++i) file << red << '\x01' << '\x02';
  };
  write("b.ppm", 2, 255);
  write("a.ppm", 2, 51);
  std::ofstream(folder + "/notes.txt") << "no image";
  DataOptions options;
  options.batch_size = 2;
  const auto data = load_data(folder, options);
  const auto batch = data.dataset.get(0).args.at(0).toTensor();
  EXPECT_EQ(batch.sizes(), (std::vector<int64_t>{2, 3, 2, 2}));
  // Files in the order of their names, RGB, divided by 255.
  EXPECT_FLOAT_EQ(batch[0][0][0][0].item<float>(), 0.2f);
  EXPECT_FLOAT_EQ(batch[1][0][0][0].item<float>(), 1.0f);
  EXPECT_FLOAT_EQ(batch[1][2][1][1].item<float>(), 2.0f / 255.0f);
  EXPECT_FALSE(data.labels.defined());
  write("c.ppm", 4, 0);
  options.batch_size = 3;
  EXPECT_THROW(load_data(folder, options).dataset.get(0), Error);
  options.image_size = 6;
  EXPECT_EQ(load_data(folder, options).dataset.get(0).args.at(0).toTensor().size(3), 6);
  EXPECT_NE(dataset_error(temp_dir()).find("no images"), std::string::npos);
}

TEST(DataFiles, AModelIsNoData) {
  const auto model = testing::define("def forward(self, x):\n  return torch.relu(x + self.w)\n", {{"w", at::ones(3)}});
  const std::string path = temp_dir() + "/model.pt";
  model.save(path);
  EXPECT_NE(dataset_error(path).find("this is a model, not data (at " + path + ")"), std::string::npos);
  EXPECT_NE(dataset_error(path, named({"images"})).find("this is a model"), std::string::npos);
}

TEST(DataFiles, DataMayHandOutItsBatches) {
  torch::jit::Module module("__torch__.Batches");
  module.register_buffer("images", images());
  module.define("def forward(self, i: int, j: int):\n  return torch.div(self.images[i:j], 255.0)\n");
  const std::string path = temp_dir() + "/data.pt";
  module.save(path);
  EXPECT_EQ(load_data(path, {}).dataset.length(), 4);
}

/// Root may read everything: permissions show for another user only.
TEST(DataFiles, SaysThatFilesAndFoldersCannotBeRead) {
  const std::string folder = temp_dir(), file = folder + "/data.pt", images = folder + "/images";
  std::filesystem::create_directory(images);
  std::ofstream(file) << "text";
  for (const auto& path : {file, images}) chmod(path.c_str(), 0);
  chmod(folder.c_str(), 0755);
  const bool root = geteuid() == 0;
  ASSERT_TRUE(!root || seteuid(65534) == 0);
  for (const auto& path : {file, images}) {
    const std::string error = dataset_error(path);
    EXPECT_NE(error.find("cannot read it: Permission denied (at " + path + ")"), std::string::npos) << error;
  }
  ASSERT_TRUE(!root || seteuid(0) == 0);
}

TEST(DataFiles, KitDataAgreesWithItsOwnBatchMethod) {
  const std::string kit = testing::kit_dir();
  if (kit.empty()) GTEST_SKIP() << "the kit is not here (set TSQUANT_KIT)";
  auto module = torch::jit::load(kit + "/data/cifar10_calib.pt");
  const auto expected = module.get_method("batch")({0, 5}).toTuple()->elements()[0].toTensor();
  auto options = named({"images"}, "labels");
  options.batch_size = 5;
  options.mean = {0.485, 0.456, 0.406};
  options.stddev = {0.229, 0.224, 0.225};
  const auto given = load_data(kit + "/data/cifar10_calib.pt", options).dataset.get(0).args.at(0).toTensor();
  EXPECT_LT((given - expected).abs().max().item<float>(), 1e-6);
}

}  // namespace
}  // namespace tsquant
