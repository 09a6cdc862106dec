#pragma once

#include <functional>
#include <set>
#include <string>

#include "flows/compression/result_file.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Results of layers that took long, kept in a folder for a run that continues this one
/// (CompressPt2eOptions::resume_dir). Files that are damaged or of something else are told about and done anew; a
/// folder that cannot be written to any more ends the keeping, not the run.
class LayerResults {
 public:
  /// Keeps nothing.
  LayerResults() = default;
  /// @param run digest of everything that decides the results
  LayerResults(std::string folder, std::string run);

  /// What a run before made of this layer.
  c10::optional<LayerResult> find(const std::string& step, const std::string& layer);
  void keep(const std::string& step, const std::string& layer, const LayerResult& result);
  /// The result of a run before, or that of `make`, which is kept.
  LayerResult obtain(const std::string& step, const std::string& layer, const std::function<LayerResult()>& make);

  /// Layers that a run before had done, and remarks on files.
  ReusedResults reused() const;

 private:
  std::string path_of(const std::string& step, const std::string& layer) const;

  std::string folder_, run_;
  bool writes_ = false;
  std::set<std::string> reused_;
  std::vector<std::string> notes_;
};

/// A digest of the model as it is annotated, of the samples and of every option that decides what becomes of a layer.
std::string run_digest(const Model& model, const Annotations& annotations, const CompressPt2eOptions& options);

/// Removes what LayerResults has written to a folder, of whatever run, and the folder when nothing else is in it.
void remove_layer_results(const std::string& folder);

/// The codes that were chosen for a layer, its adapters and new bias, and its record so far.
LayerResult result_of(const WeightLayer& layer);
/// Makes a layer what it was when `result_of` saw it. @throws std::exception when the result is of something else
void restore(const LayerResult& result, WeightLayer& layer);

/// Codes as a result holds them: packed. Appends to it under a name.
void add_weight(LayerResult& result, const std::string& name, const CompressedWeight& weight);
CompressedWeight weight_in(const LayerResult& result, const std::string& name);

/// Adapters without the codes of the weight itself.
void add_correction(LayerResult& result, const LowRankCorrection& correction);
LowRankCorrection correction_in(const LayerResult& result);

}  // namespace tsquant
