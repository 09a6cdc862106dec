// Runs a quantized model in a program that links LibTorch only: run_int8_cpp MODEL_int8.pt libtsquant_ops.so 1,3,32,32
// Prints the sum of the output for an input of ones. A model in reference form needs no library: give "-" instead.
#include <ATen/Context.h>
#include <caffe2/serialize/inline_container.h>
#include <dlfcn.h>
#include <torch/script.h>

#include <iostream>
#include <sstream>

namespace {

// A lowered model for one of LibTorch's own engines needs that engine at load and at every call; the archive names it.
void select_engine(const std::string& name) {
  for (auto engine : at::globalContext().supportedQEngines()) {
    if (at::toString(engine) == name) at::globalContext().setQEngine(engine);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: run_int8_cpp MODEL_int8.pt libtsquant_ops.so|- SHAPE\n";
    return 2;
  }
  if (std::string(argv[2]) != "-" && !dlopen(argv[2], RTLD_NOW | RTLD_GLOBAL)) {
    std::cerr << dlerror() << '\n';
    return 1;
  }
  std::vector<int64_t> shape;
  std::istringstream text(argv[3]);
  for (std::string part; std::getline(text, part, ',');) shape.push_back(std::stoll(part));

  caffe2::serialize::PyTorchStreamReader archive(argv[1]);
  if (archive.hasRecord("extra/tsquant_engine")) {
    const auto record = archive.getRecord("extra/tsquant_engine");
    select_engine(std::string(static_cast<const char*>(std::get<0>(record).get()), std::get<1>(record)));
  }
  auto model = torch::jit::load(argv[1]);
  torch::NoGradGuard no_grad;
  std::cout << model.forward({torch::ones(shape)}).toTensor().sum().item<double>() << '\n';
}
