#pragma once

#include <vector>

#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// Adds quantizers to recurrent operators (aten::lstm, gru, rnn_tanh, rnn_relu and their cells): every weight matrix
/// gets one along its output channels, and the input sequence gets one. State and biases stay in float.
/// NNCF leaves these operators in float in its torch backends, so this is an addition to its placement; the solver does
/// not know about it.
/// @param ignored by node of the view: the user's ignored scope
void add_recurrent_points(const GraphView& view, const std::vector<bool>& ignored,
                          const OpenVINOQuantizerOptions& options, Annotations& annotations);

}  // namespace tsquant::openvino
