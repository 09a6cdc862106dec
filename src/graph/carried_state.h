#pragma once

#include "tsquant/graph_view.h"

namespace tsquant {

/// True when `forward` writes attributes of the module, by assignment or in place, so that a sample's result depends
/// on the samples before.
bool is_stateful(const Model& model);

/// aten::lstm, gru, rnn_tanh, rnn_relu and their cells.
bool is_recurrent(const ViewNode& node);

bool has_recurrent(const GraphView& view);

}  // namespace tsquant
