#pragma once

#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// As Model::load, but the values of large tensors (16 KiB and more) stay in the file, and each page is read when it is
/// first used: a model can be looked at, and compressed weight by weight, in less memory than its file is large.
/// What is written into such a tensor is seen by nobody else.
///
/// The file must not be changed or overwritten in place while the model, or one of its tensors, lives: the process ends
/// when a page is gone. `Model::save` and everything else of this library puts a new file in the place of the old one,
/// which does no harm. Values are read into memory all the same when the archive does not allow it: a class has
/// `__setstate__`, tensors are quantized or sparse, records are deflated.
///
/// ```cpp
/// auto model = tsquant::load_mapped("model.pt");
/// tsquant::CompressWeightsOptions options;
/// options.do_copy = false;
/// tsquant::compress_weights(model, options).save("compressed.pt");
/// ```
/// @throws Error as Model::load
Model load_mapped(const std::string& path, const CaptureOptions& options = {});

}  // namespace tsquant
