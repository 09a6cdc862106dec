// Trains a classifier with quantizers of 4 bits, so that it keeps its accuracy: qat MODEL.pt TRAIN.pt TEST.pt OUT.pt
// `tsquant demo --qat` writes such files: the data are TorchScript modules with the buffers `images` (uint8) and
// `labels`. Started again after an interruption it goes on with the epoch that was interrupted, to the same weights.
#include <torch/optim.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include <filesystem>
#include <iostream>

namespace {

namespace fx = tsquant::fx;

constexpr size_t kEpochs = 4;
constexpr int64_t kBatch = 64;

struct Data {
  explicit Data(const std::string& path) {
    const auto file = torch::jit::load(path);
    images = (file.attr("images").toTensor().to(at::kFloat) / 255 - 0.5) / 0.25;
    labels = file.attr("labels").toTensor();
  }
  at::Tensor images, labels;
};

/// Which quantizers there are: unsigned codes of 4 bits for activations, signed ones per channel for weights.
fx::QConfigMapping four_bits() {
  fx::QConfig qconfig = fx::get_default_qat_qconfig("onednn", /*version=*/0);
  qconfig.activation.quant_min = 0;
  qconfig.activation.quant_max = 15;
  qconfig.weight.quant_min = -8;
  qconfig.weight.quant_max = 7;
  qconfig.weight.averaging_constant = 1;  // the range of the weights as they are, not as they were
  return fx::QConfigMapping().set_global(qconfig);
}

/// The module holds all of weights, ranges and statistics, so it is the checkpoint. The new file takes the place of the
/// old one when it is complete.
void save_checkpoint(const torch::jit::Module& prepared, size_t epochs_done, const std::string& path) {
  prepared.save(path + ".new", {{"epochs_done", std::to_string(epochs_done)}});
  std::filesystem::rename(path + ".new", path);
}

torch::jit::Module load_checkpoint(const std::string& path, size_t& epochs_done) {
  torch::jit::ExtraFilesMap files{{"epochs_done", ""}};
  auto prepared = torch::jit::load(path, at::kCPU, files);
  epochs_done = std::stoull(files.at("epochs_done"));
  std::cout << "goes on after epoch " << epochs_done << '\n';
  return prepared;
}

/// A plain loop of LibTorch. The learning rate falls to 0 at the end of the last epoch.
void train_epoch(torch::jit::Module& prepared, const Data& data, size_t epoch) {
  std::vector<at::Tensor> parameters;
  for (const auto& parameter : prepared.parameters()) parameters.push_back(parameter);
  torch::optim::Adam optimizer(parameters);
  const auto batches = torch::randperm(data.labels.size(0)).split(kBatch);
  const auto steps = static_cast<double>(batches.size() * kEpochs);
  auto left = static_cast<double>(batches.size() * (kEpochs - epoch));
  for (const at::Tensor& rows : batches) {
    optimizer.param_groups().front().options().set_lr(2e-3 * left-- / steps);
    optimizer.zero_grad();
    const at::Tensor scores = prepared.forward({data.images.index_select(0, rows)}).toTensor();
    torch::cross_entropy_loss(scores, data.labels.index_select(0, rows)).backward();
    optimizer.step();
  }
}

double accuracy(const tsquant::Model& model, const Data& data) {
  const at::Tensor scores = model.run({{data.images}, {}}).toTensor();
  return scores.argmax(1).eq(data.labels).to(at::kDouble).mean().item<double>();
}

void run(const std::string& model_path, const Data& train, const Data& test, const std::string& output) {
  const auto model = tsquant::Model::load(model_path);
  const std::string checkpoint = output + ".checkpoint";
  size_t epochs_done = 0;
  auto prepared = std::filesystem::exists(checkpoint)
                      ? load_checkpoint(checkpoint, epochs_done)
                      : fx::prepare_qat_fx(model, four_bits(), {{train.images.narrow(0, 0, kBatch)}, {}});
  for (size_t epoch = epochs_done; epoch < kEpochs; ++epoch) {
    torch::manual_seed(epoch);
    if (epoch == kEpochs - 1) {  // from here on with the ranges and statistics that the result has
      tsquant::disable_observer(prepared);
      tsquant::freeze_bn_stats(prepared);
    }
    train_epoch(prepared, train, epoch);
    save_checkpoint(prepared, epoch + 1, checkpoint);
    std::cout << "epoch " << epoch + 1 << " of " << kEpochs << '\n';
  }
  const auto result = fx::convert_to_reference_fx(prepared);
  result.save(output);
  std::filesystem::remove(checkpoint);
  std::cout << "top-1: float " << accuracy(model, test) << ", 4 bits " << accuracy(result.model, test) << '\n';
}

/// A graph that LibTorch has compiled adds gradients in another order: without, a training that was interrupted ends
/// with the same bits as one that was not.
void interpret_graphs() { torch::jit::setGraphExecutorOptimize(false); }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: qat MODEL.pt TRAIN.pt TEST.pt OUT.pt\n";
    return 2;
  }
  try {
    interpret_graphs();
    run(argv[1], Data(argv[2]), Data(argv[3]), argv[4]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
