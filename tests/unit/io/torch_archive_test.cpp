#include "io/torch_archive.h"

#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>

#include <fstream>

#include "io/archive_info.h"
#include "io/code_text.h"
#include "io/json_text.h"
#include "io/module_check.h"
#include "io/named_tensors.h"
#include "support/support.h"

namespace tsquant {
namespace {

using namespace std::string_literals;
using testing::temp_dir;
using Records = std::map<std::string, std::string>;

std::string write_archive(const Records& records) {
  const std::string path = temp_dir() + "/archive.pt";
  caffe2::serialize::PyTorchStreamWriter writer(path);
  for (const auto& [name, bytes] : records) {
    if (name != "version") writer.writeRecord(name, bytes.data(), bytes.size());
  }
  writer.writeEndOfFile();
  return path;
}

Records records_of(const std::string& path) {
  TorchArchive archive(path, model_archive());
  Records records;
  for (const auto& name : archive.names()) records[name] = archive.read(name);
  return records;
}

/// A small model as its records.
Records model_records() {
  const std::string path = temp_dir() + "/model.pt";
  testing::define("def forward(self, x: Tensor):\n  return x + self.w\n", {{"w", at::ones({2, 3})}}).save(path);
  return records_of(path);
}

/// The message of the error that loading gives; "" without one.
std::string load_fault(const std::string& path) {
  try {
    TorchArchive(path, model_archive()).load_module();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoad);
    return error.message();
  }
  return "";
}

std::string record_ending(const Records& records, const std::string& ending) {
  for (const auto& [name, bytes] : records) {
    if (name.size() > ending.size() && name.substr(name.size() - ending.size()) == ending) return name;
  }
  return "";
}

TEST(TorchArchive, LoadsWhatLibTorchWrote) { EXPECT_EQ(load_fault(write_archive(model_records())), ""); }

TEST(TorchArchive, DamagedPicklesOfAModelNeverReachLibTorch) {
  const auto whole = model_records();
  for (const std::string& record : {"data.pkl"s, "constants.pkl"s, record_ending(whole, ".debug_pkl")}) {
    ASSERT_TRUE(whole.count(record)) << record;
    for (const std::string body : {"R", "b", "Q", "\x86", "(R", "\x81", "NN\x87"}) {
      auto records = whole;
      records[record] = "\x80\x02" + body + ".";
      const auto message = load_fault(write_archive(records));
      EXPECT_NE(message.find("the model file is damaged: it takes a value from an empty stack, at byte"),
                std::string::npos)
          << message;
      EXPECT_NE(message.find(record), std::string::npos) << message;
    }
    auto records = whole;
    records[record] = "N";
    EXPECT_NE(load_fault(write_archive(records)).find("is damaged"), std::string::npos);
  }
}

TEST(TorchArchive, EveryFlippedByteOfTheDescriptionIsAnErrorOrAModel) {
  const auto whole = model_records();
  const auto debug = record_ending(whole, ".debug_pkl");
  for (const auto& record : {"data.pkl"s, debug}) {
    for (size_t i = 0; i < whole.at(record).size(); i += 3) {
      auto records = whole;
      records[record][i] = static_cast<char>(records[record][i] ^ 0x41);
      load_fault(write_archive(records));
    }
  }
}

TEST(TorchArchive, ShortRecordsOfTensorsAreRefused) {
  auto records = model_records();
  ASSERT_EQ(records.at("data/0").size(), 24u);
  for (const size_t size : {0, 4, 23}) {
    records["data/0"].resize(size);
    EXPECT_NE(load_fault(write_archive(records)).find("the record of tensor data 0 is too short"), std::string::npos);
  }
  records.erase("data/0");
  EXPECT_NE(load_fault(write_archive(records)).find("the record of tensor data 0 is missing"), std::string::npos);
}

TEST(TorchArchive, FilesThatAreNoArchives) {
  const auto folder = temp_dir();
  std::ofstream(folder + "/text.pt") << "no archive";
  EXPECT_EQ(load_fault(folder + "/text.pt"), "the model file is damaged or no archive");
  EXPECT_EQ(load_fault(folder + "/absent.pt"), "no such file");
  EXPECT_EQ(load_fault(folder), "this is a folder, not a file");
  EXPECT_NE(load_fault(std::string(5000, 'x')).find("cannot be read"), std::string::npos)
      << "longer than a name may be";
  EXPECT_EQ(load_fault(write_archive({{"data.pkl", "\x80\x02N."}})), "the archive holds no TorchScript module");
  EXPECT_EQ(read_extra_file(write_archive({{"extra/a", "b"}}), "a"), "b");
}

TEST(TorchArchive, AttributesMustHaveTheirTypes) {
  auto records = model_records();
  auto& pickle = records["data.pkl"];
  const size_t at = pickle.find("training") + 8;
  const size_t value = pickle.find_first_of("\x88\x89", at);
  ASSERT_NE(value, std::string::npos);
  pickle[value] = 'N';
  EXPECT_EQ(load_fault(write_archive(records)), "the model file is damaged: training has a value of another type");
}

TEST(TorchArchive, IndicesOfSparseTensorsMustLieInside) {
  torch::jit::Module module("M");
  const auto index = at::tensor({1, 7}, at::kLong).view({1, 2});
  module.register_buffer("good", at::sparse_coo_tensor(index, at::ones({2}), {8}));
  EXPECT_EQ(module_fault(module), "");
  module.register_buffer("bad", at::_sparse_coo_tensor_unsafe(index, at::ones({2}), {5}));
  EXPECT_EQ(module_fault(module), "bad has a value of another type");
}

TEST(ModuleFault, ZeroPointsOfChannelsAreCodes) {
  const auto with = [](int64_t zero_point, at::ScalarType dtype) {
    const auto codes = at::ones({2, 3}, dtype == at::kQInt8 ? at::kChar : at::kByte);
    const auto zero_points = at::tensor({int64_t{0}, zero_point}, at::kLong);
    torch::jit::Module module("m");
    module.register_buffer("w", at::_make_per_channel_quantized_tensor(codes, at::ones({2}), zero_points, 0));
    return module_fault(module);
  };
  EXPECT_EQ(with(-128, at::kQInt8), "");
  EXPECT_EQ(with(255, at::kQUInt8), "");
  EXPECT_EQ(with(-129, at::kQInt8), "w has zero points that are no codes");
  EXPECT_EQ(with(-1, at::kQUInt8), "w has zero points that are no codes");
  EXPECT_EQ(with(int64_t{1} << 60, at::kQInt8), "w has zero points that are no codes");
}

TEST(TorchArchive, PickledDataIsCheckedToo) {
  const auto message = [](const std::string& body) -> std::string {
    try {
      read_torch_file(write_archive({{"data.pkl", "\x80\x02" + body + "."}}));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataset);
      return error.message();
    }
    return "";
  };
  EXPECT_NE(message("R").find("the data file is damaged"), std::string::npos);
  EXPECT_NE(message("]q\x01(h\x01" + "e"s).find("holds itself"), std::string::npos);
  std::string doubled = ")";
  for (char i = 0; i < 60; ++i) doubled += "q"s + i + "h" + i + "\x86";
  EXPECT_NE(message(doubled).find("values"), std::string::npos);
  EXPECT_NE(message("ctorch._utils\n_rebuild_sparse_tensor\n(tR").find("sparse"), std::string::npos);
  const std::string plain = temp_dir() + "/plain.pt";
  std::ofstream(plain, std::ios::binary) << "\x80\x02R.";
  EXPECT_THROW(read_torch_file(plain), Error);
}

TEST(CodeText, NamesThatNoLibraryDefines) {
  const auto names = undefined_names(
      "x = ops.absent.op (y)\nz = ops.quantized.add(x)\nops.prim.foo(x)\nmyops.other.op(x)\nops.no_call.op\n"
      "a : __torch__.torch.classes.absent.Params\n");
  EXPECT_EQ(names, (std::set<std::string>{"absent::op", "torch.classes.absent.Params"}));
  const std::string longest(1000000, 'a');
  EXPECT_EQ(undefined_names("ops." + longest + ".b(").size(), 1u);
  EXPECT_LT(undefined_names("ops." + longest + ".b(").begin()->size(), 200u);
  EXPECT_TRUE(undefined_names("ops." + longest).empty());
}

TEST(CodeText, ConstantsOfClassesHaveTypes) {
  const std::string head = "class M(Module):\n  __parameters__ = []\n  __buffers__ = [\"x\", ]\n  x : Tensor\n";
  EXPECT_FALSE(has_untyped_constant(head + "  __annotations__ = []\n  __annotations__[\"a\"] = int\n"));
  EXPECT_FALSE(has_untyped_constant(head + "  n : Final[int] = 3\n  def forward(self,\n    x: Tensor) -> Tensor:\n"
                                           "    y = torch.add(x, x)\n    return y\n"));
  EXPECT_FALSE(has_untyped_constant("class Colour(Enum):\n  RED = 1\n"));
  EXPECT_TRUE(has_untyped_constant(head + "  n = 3\n"));
  EXPECT_TRUE(has_untyped_constant("class M(Module):\n  __parameterb__= []\n"));
}

TEST(CodeText, NestingIsLimited) {
  EXPECT_FALSE(is_nested_too_deeply("f(" + std::string(100, '(') + std::string(100, ')') + ")"));
  EXPECT_TRUE(is_nested_too_deeply("x = " + std::string(100000, '(')));
  EXPECT_FALSE(is_nested_too_deeply("x = \"" + std::string(1000, '(') + "\"  # " + std::string(1000, '[')));
  EXPECT_TRUE(is_nested_too_deeply("if x:\n" + std::string(5000, ' ') + "y\n"));
}

TEST(CodeText, EnumsHaveTheirValuesOnly) {
  const std::string code = "class Color(Enum):\n  RED = 1\n  BLUE = 2\nclass Net(Module):\n  x = 5\n";
  PickleNode value;
  value.kind = PickleKind::kInt;
  for (const auto& [number, fits] : {std::pair{1, true}, {2, true}, {5, false}, {12, false}}) {
    value.number = number;
    EXPECT_EQ(enum_may_be(code, "Color", value), fits) << number;
  }
  EXPECT_TRUE(enum_may_be(code, "Net", value)) << "no enum";
}

TEST(JsonText, DepthIsLimitedAndReasonsArePlain) {
  using nlohmann::json;
  EXPECT_EQ(parse_json<json>(R"({"a": [1]})").at("a").size(), 1u);
  EXPECT_THROW(parse_json<json>(std::string(100000, '[')), JsonFault);
  EXPECT_THROW(parse_json<json>("// \"\n" + std::string(100000, '['), true), JsonFault);
  try {
    parse_json<nlohmann::ordered_json>("{");
    FAIL();
  } catch (const JsonFault& fault) {
    EXPECT_EQ(std::string(fault.what()).find("json.exception"), std::string::npos);
  }
}

}  // namespace
}  // namespace tsquant
