// The operator library in other hosts: a program that links LibTorch alone, and Python.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "call_op.h"
#include "support/build_under_test.h"

namespace tsquant::testing {
namespace {

const std::string kLibrary = lib_dir() + "/libtsquant_ops.so";

int exit_code(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Load, SchemasArePyTorchTwos) {
  const auto schema = [](const char* name, const char* overload) {
    return toString(c10::Dispatcher::singleton()
                        .findSchemaOrThrow((std::string("quantized_decomposed::") + name).c_str(), overload)
                        .schema());
  };
  EXPECT_EQ(schema("dequantize_per_tensor", "tensor"),
            "quantized_decomposed::dequantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, "
            "int quant_min, int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor");
  EXPECT_EQ(schema("dequantize_per_channel", ""),
            "quantized_decomposed::dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, "
            "int quant_min, int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor");
  EXPECT_EQ(schema("choose_qparams", "tensor"),
            "quantized_decomposed::choose_qparams.tensor(Tensor input, int quant_min, int quant_max, float eps, "
            "ScalarType dtype) -> (Tensor, Tensor)");
}

TEST(Load, ProgramThatLinksLibTorchAlone) {
  const std::string program = std::string(TSQUANT_BIN_DIR) + "/dlopen_ops";
  if (!std::filesystem::exists(program)) GTEST_SKIP() << program << " is not built";
  EXPECT_EQ(exit_code("'" + program + "' '" + kLibrary + "'"), 0);
}

TEST(Load, Python) {
  const char* set = std::getenv("TSQUANT_PYTHON");
  const std::string python = set ? set : "/usr/bin/python3";
  const int code = exit_code(python + " '" + TSQUANT_SOURCE_DIR "/tests/e2e/python_load.py' '" + kLibrary + "'");
  if (code == 77 || code == 127) GTEST_SKIP() << python << " has no torch";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace tsquant::testing
