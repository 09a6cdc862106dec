#pragma once

#include <vector>

#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// The magnitude of a transform that is spelled as a convolution or a linear layer (short-time Fourier transform):
/// sqrt(re^2 + im^2), or without the root, where re and im are parts of what layers with constant weights computed.
struct Spectrum {
  int64_t magnitude = 0;       ///< the last operator, as node of the view
  std::vector<int64_t> nodes;  ///< all operators from the layers to the magnitude
};

/// The magnitudes of a model span many powers of ten, within a spectrum and even more as squares. 8 bits with one scale
/// hold a little more than two, so everything up to the magnitude stays in float. NNCF has patterns that it ignores for
/// the same reason (nncf/torch/quantization/ignored_patterns.py); this one is an addition.
std::vector<Spectrum> find_spectra(const GraphView& view);

/// Says why the nodes of spectra stay in float, and gives each of their channels (frequencies) a scale of its own where
/// a quantizer stands right behind the magnitude, unless the user decided about scales per channel.
/// @param ignored by node of the view: the user's ignored scope
void describe_spectra(const GraphView& view, const std::vector<Spectrum>& spectra, const std::vector<bool>& ignored,
                      const OpenVINOQuantizerOptions& options, Annotations& annotations);

}  // namespace tsquant::openvino
