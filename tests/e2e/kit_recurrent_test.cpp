// Recurrent networks of the kit: a bidirectional LSTM over bytes and a stateful voice detector. Needs the kit.
#include <gtest/gtest.h>
#include <torch/script.h>
#include <tsquant/tsquant.h>

#include "e2e/with_kit.h"
#include "support/support.h"

namespace tsquant {
namespace {

class KitRecurrent : public testing::WithKit {
 protected:
  at::Tensor buffer(const std::string& file, const std::string& name) const {
    return torch::jit::load(kit_ + "/data/" + file + ".pt").attr(name).toTensor();
  }

  /// Quantizes with default options and returns the written file, loaded again.
  torch::jit::Module quantized(const std::string& model_file, const Dataset& data, Report& report) const {
    auto model = Model::load(kit_ + "/models/" + model_file);
    OpenVINOQuantizer quantizer;
    QuantizePt2eOptions options;
    options.subset_size = data.length();
    options.form = OutputForm::kReference;
    const auto result = quantize_pt2e(model, quantizer, data, options);
    report = result.report;
    const auto path = testing::temp_dir() + "/quantized.pt";
    result.save(path);
    return torch::jit::load(path);
  }

  /// Nodes whose weights are quantized; one per weight.
  static std::vector<std::string> weights(const Report& report) {
    std::vector<std::string> nodes;
    for (const auto& record : report.quantizers) {
      if (record.kind == "weight") nodes.push_back(record.node);
    }
    return nodes;
  }
};

TEST_F(KitRecurrent, ByteLstmKeepsItsClasses) {
  at::NoGradGuard no_grad;
  const auto calibration = buffer("reddit_bytes_calib", "bytes"), test = buffer("reddit_bytes_test", "bytes");
  Report report;
  auto quantized_module = quantized("reddit_bytelstm.pt", Dataset::from_rows({calibration}, 1), report);
  EXPECT_EQ(weights(report).size(), 6u);  // two linear layers and four matrices of the LSTM
  auto reference = torch::jit::load(kit_ + "/models/reddit_bytelstm.pt");
  int64_t same = 0;
  for (int64_t i = 0; i < test.size(0); i += 64) {
    const auto batch = test.narrow(0, i, 64);
    const auto expected = reference.forward({batch}).toTensor().argmax(1);
    same += quantized_module.forward({batch}).toTensor().argmax(1).eq(expected).sum().item<int64_t>();
  }
  const double agreement = static_cast<double>(same) / test.size(0);
  RecordProperty("agreement", std::to_string(agreement));
  EXPECT_GE(agreement, 0.97) << agreement;
}

/// Speech probabilities of consecutive chunks; the module keeps its state between them.
at::Tensor probabilities(torch::jit::Module module, const at::Tensor& chunks, int64_t rate) {
  std::vector<at::Tensor> values;
  for (int64_t i = 0; i < chunks.size(0); ++i) {
    values.push_back(module.forward({chunks.narrow(0, i, 1), rate}).toTensor().reshape({1}).clone());
  }
  return at::cat(values);
}

// The defaults are enough: ranges of models with memory cover all steps, and the spectrum in front of the encoder stays
// in float (quantizers/openvino/spectrum.h).
TEST_F(KitRecurrent, VoiceDetectorKeepsItsStateAtBothRates) {
  at::NoGradGuard no_grad;
  const auto wide = buffer("vad_audio_16k_calib", "chunks"), narrow = buffer("vad_audio_8k_calib", "chunks");
  constexpr int64_t kChunks = 600;
  const Dataset data(2 * kChunks, [&](int64_t i) {
    return i < kChunks ? Sample{{wide.narrow(0, i, 1), int64_t{16000}}, {}}
                       : Sample{{narrow.narrow(0, i - kChunks, 1), int64_t{8000}}, {}};
  });
  Report report;
  const auto module = quantized("silero_vad.jit", data, report);
  // Both networks: four convolutions of the encoder, one behind the LSTM; its two matrices, with and without state.
  const auto nodes = weights(report);
  EXPECT_EQ(nodes.size(), 18u);
  for (const std::string network : {"_model", "_model_8k"}) {
    for (const std::string layer :
         {"encoder/0/reparam_conv/conv1d/0", "encoder/1/reparam_conv/conv1d/0", "encoder/2/reparam_conv/conv1d/0",
          "encoder/3/reparam_conv/conv1d/0", "decoder/decoder/2/conv1d/0", "decoder/rnn/lstm_cell/0"}) {
      EXPECT_TRUE(std::count(nodes.begin(), nodes.end(), network + "/" + layer)) << network << " " << layer;
    }
  }
  EXPECT_LT(report.quantized_bytes, report.float_bytes / 2) << "the float weights leave the file";
  const auto reference = torch::jit::load(kit_ + "/models/silero_vad.jit");
  for (const int64_t rate : {16000, 8000}) {
    const auto chunks = buffer(rate == 16000 ? "vad_audio_16k_test" : "vad_audio_8k_test", "chunks");
    const auto expected = probabilities(reference.deepcopy(), chunks, rate);
    const auto got = probabilities(module.deepcopy(), chunks, rate);
    const double difference = (got - expected).abs().mean().item<double>();
    RecordProperty("difference_" + std::to_string(rate), std::to_string(difference));
    EXPECT_LE(difference, 0.02) << rate;
    EXPECT_GT(difference, 0) << "nothing is quantized at this rate";
    // Without state each chunk would be judged alone.
    const auto alone = module.deepcopy().forward({chunks.narrow(0, 500, 1), rate}).toTensor().reshape({});
    EXPECT_NE(alone.item<float>(), got[500].item<float>());
  }
}

}  // namespace
}  // namespace tsquant
