// Quantizes a model by several processes that share the calibration data: one call of this program per rank.
//   distributed_calibration MODEL.pt SAMPLES.pt OUT.pt STORE RANK SIZE [default|minmax|histogram] [TIMEOUT_SECONDS]
// SAMPLES.pt is a tensor saved by torch.save; each row is one sample. STORE is a new file that all ranks see. Every
// rank ends with the same model and writes it to its OUT.pt; run.sh starts all ranks on this machine.
#include <torch/script.h>
#include <torch/serialize.h>
#include <tsquant/tsquant.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace {

at::Tensor read_tensor(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return torch::pickle_load(bytes).toTensor();
}

tsquant::RangeEstimatorParameters estimator_named(const std::string& name) {
  if (name == "default") return {};
  if (name == "minmax") return tsquant::RangeEstimatorParameters::minmax();
  if (name == "histogram") return tsquant::RangeEstimatorParameters::histogram();
  throw std::invalid_argument("unknown range estimator " + name + ": use default, minmax or histogram");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    std::cerr << "usage: distributed_calibration MODEL.pt SAMPLES.pt OUT.pt STORE RANK SIZE "
                 "[default|minmax|histogram] [TIMEOUT_SECONDS]\n";
    return 2;
  }
  try {
    const int64_t rank = std::stoll(argv[5]), size = std::stoll(argv[6]);
    tsquant::QuantizePt2eOptions options;
    if (argc > 7) options.activations_range_estimator_params = estimator_named(argv[7]);
    // A program alone needs no exchange.
    if (size > 1)
      options.exchange = tsquant::make_gloo_exchange(argv[4], rank, size, argc > 8 ? std::stod(argv[8]) : 300);

    const at::Tensor rows = read_tensor(argv[2]);
    // A real program would read sample `i` from disk here: only the samples of this rank and the first are asked for.
    const tsquant::Dataset data(rows.size(0), [&rows](int64_t i) {
      return tsquant::Sample{{rows.narrow(0, i, 1)}, {}};
    });
    auto model = tsquant::Model::load(argv[1]);
    tsquant::OpenVINOQuantizer quantizer;
    const auto result = tsquant::quantize_pt2e(model, quantizer, data, options);
    result.save(argv[3]);
    if (rank == 0) std::cout << result.report.summary();
  } catch (const std::exception& error) {
    std::cerr << "rank " << argv[5] << ": " << error.what() << '\n';
    return 1;
  }
}
