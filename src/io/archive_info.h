#pragma once

#include <string>

namespace tsquant {

/// A text stored beside the module in an archive (`extra/<name>`), read without loading the module; "" when there is
/// none. @throws Error kModelLoad when the file is no archive
std::string read_extra_file(const std::string& path, const std::string& name);

/// Whether a data file is a model by mistake: an archive of a TorchScript module whose `forward` takes tensors, and
/// that computes something or has parameters. Modules that carry data hand out batches by number, if they have a
/// forward.
bool is_model_archive(const std::string& path);

}  // namespace tsquant
