#pragma once

// Everything a user of the library needs.
#include "tsquant/annotation.h"
#include "tsquant/backend.h"
#include "tsquant/dataset.h"
#include "tsquant/distributed.h"
#include "tsquant/error.h"
#include "tsquant/graph_view.h"
#include "tsquant/load_quantizer.h"
#include "tsquant/model.h"
#include "tsquant/observer.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/quantize_with_accuracy_control.h"
#include "tsquant/quantizer.h"
#include "tsquant/report.h"
