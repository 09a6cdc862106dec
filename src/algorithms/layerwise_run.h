#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

/// Runs many samples through a model together, layer by layer: all samples reach a layer before any goes on, and the
/// layer's result can be changed in between. Together that is one pass over the model per sample.
///
/// The outermost block is cut behind each layer; what later parts still read is kept per sample, everything else is
/// released. Control flow between the layers runs as in the model.
class LayerwiseRun {
 public:
  /// Whether the model can be cut behind these nodes: they stand in the outermost block, and the model keeps no state
  /// that would carry over from one sample to the next.
  static bool possible(const Model& model, const std::vector<torch::jit::Node*>& layers);

  /// @param layers nodes of `model` in execution order
  LayerwiseRun(const Model& model, const std::vector<torch::jit::Node*>& layers);
  ~LayerwiseRun();

  /// @throws Error kDataset when the sample does not fit `forward`
  void add_sample(const Sample& sample);

  /// Runs all samples up to the result of layer `index`; layers are advanced to in order, each once.
  /// @param input input of the layer's node that `visit` wants to see
  /// @param visit called per sample with that input and the layer's result
  void advance(size_t index, size_t input,
               const std::function<void(const at::Tensor& input, const at::Tensor& result)>& visit);

  /// Runs all samples up to, but not including, layer `index`: its weight may be changed before it runs. Weights that
  /// the model reads are read anew by each part.
  /// @param visit called per sample with input `input` of the layer
  void advance_before(size_t index, size_t input, const std::function<void(const at::Tensor& input)>& visit);

  /// Adds one value per channel to the results of the layer that was advanced to last.
  /// @param axis channel axis of the results; negative counts from the end
  void add_to_results(const at::Tensor& shift, int64_t axis);

 private:
  struct Segment;
  using State = std::unordered_map<const torch::jit::Value*, c10::IValue>;

  Segment make_segment(size_t begin, size_t end, const torch::jit::Value* kept) const;
  void run_segment(const Segment& segment, size_t end, const std::function<void(const State& state)>& visit);
  void note_last_use(const torch::jit::Value* value, size_t made);

  const Model& model_;
  std::vector<torch::jit::Node*> layers_;
  std::vector<torch::jit::Node*> nodes_;  ///< of the outermost block
  std::unordered_map<const torch::jit::Node*, size_t> positions_;
  std::unordered_map<const torch::jit::Value*, size_t> last_use_;
  std::vector<std::vector<const torch::jit::Value*>> dying_;  ///< by position: values that nobody reads afterwards
  std::vector<State> samples_;
  size_t done_ = 0;     ///< nodes that all samples have run
  size_t current_ = 0;  ///< layer that was advanced to last
};

}  // namespace tsquant
