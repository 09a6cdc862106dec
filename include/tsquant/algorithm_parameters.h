#pragma once

#include <c10/util/Optional.h>

namespace tsquant {

/// What the mean output of a layer with quantized weights is compared with.
enum class BiasReference {
  /// The layer's own mean output with float weights, on the same inputs: takes back the error of this layer's weights.
  kSimulated,
  /// The mean output of the float model, with NNCF's numbers: fast, zero padding counts as an error too, which costs
  /// accuracy; accurate, layers behind a merge of branches see the corrections of one branch only.
  kCollected,
};

/// NNCF's AdvancedBiasCorrectionParameters.
struct BiasCorrectionParameters {
  /// True: quantized layers without a bias get one, whatever the threshold. False: only layers that have a bias are
  /// corrected.
  bool apply_for_all_nodes = false;
  /// Largest allowed |shift / bias| of a layer; layers above it keep their bias. None: no limit for kSimulated, whose
  /// shift has no noise; otherwise NNCF's, 2 for the fast algorithm and 1000 for the accurate one.
  c10::optional<double> threshold = c10::nullopt;
  /// None: fast: kSimulated; accurate: the mean output of the float model, seeing all corrections made so far.
  c10::optional<BiasReference> reference = c10::nullopt;
  /// Smallest shift worth writing, in standard deviations of the noise that rounding the layer's input makes in that
  /// output channel (step / sqrt(12) times the Euclidean norm of the channel's weights). Channels below keep their
  /// bias: shifts of 8-bit weights are mostly far below that noise, and writing them changes as many results for the
  /// worse as for the better. 0: every shift. None: 0.5; with kCollected 0, as NNCF.
  c10::optional<double> smallest_shift = c10::nullopt;
};

/// NNCF's AdvancedSmoothQuantParameters: how much of the range moves from activations to weights, by kind of layer.
/// 0 leaves activations as they are, 1 makes all activation channels equally wide; a negative value switches the kind
/// off. @throws Error kInvalidArgument above 1
struct SmoothQuantParameters {
  double convolution = -1;  ///< convolutions
  double matmul = 0.95;     ///< linear layers
};

}  // namespace tsquant
