// One of several processes that compress the weights of a model together:
//   distributed_compression MODEL.pt SAMPLES.pt OUT.pt STORE RANK SIZE OPTIONS.json [TIMEOUT_SECONDS]
// SAMPLES.pt is a tensor saved by torch.save; each row is one sample; "none": no data. OPTIONS.json holds options of
// compress_weights (see read_compress_options). STORE is a new file that all ranks see. Every rank ends with the same
// model and writes it to its OUT.pt; examples/distributed_calibration/run.sh starts all ranks on this machine.
#include <torch/script.h>
#include <torch/serialize.h>
#include <tsquant/tsquant.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace {

tsquant::Dataset rows_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const at::Tensor rows = torch::pickle_load(bytes).toTensor();
  return tsquant::Dataset(rows.size(0), [rows](int64_t i) { return tsquant::Sample{{rows.narrow(0, i, 1)}, {}}; });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) {
    std::cerr << "usage: distributed_compression MODEL.pt SAMPLES.pt|none OUT.pt STORE RANK SIZE OPTIONS.json "
                 "[TIMEOUT_SECONDS]\n";
    return 2;
  }
  try {
    const int64_t rank = std::stoll(argv[5]), size = std::stoll(argv[6]);
    auto options = tsquant::read_compress_options(argv[7]);
    if (std::string(argv[2]) != "none") options.dataset = rows_of(argv[2]);
    // A program alone needs no exchange.
    if (size > 1)
      options.exchange = tsquant::make_gloo_exchange(argv[4], rank, size, argc > 8 ? std::stod(argv[8]) : 300);

    auto model = tsquant::Model::load(argv[1]);
    const auto result = tsquant::compress_weights(model, options);
    result.save(argv[3]);
    if (rank == 0) std::cout << result.report.summary();
  } catch (const std::exception& error) {
    std::cerr << "rank " << argv[5] << ": " << error.what() << '\n';
    return 1;
  }
}
