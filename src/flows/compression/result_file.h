#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tsquant {

/// What an algorithm made of one layer.
struct LayerResult {
  std::vector<at::Tensor> tensors = {};              ///< dense; some may be undefined
  nlohmann::json values = nlohmann::json::object();  ///< numbers here are whole ones: others belong into a tensor
};

/// What a result was made from and by. A result is used only where all of it is the same.
struct ResultKey {
  std::string run;    ///< model, data and options, as a digest
  std::string step;   ///< "codes", "awq"
  std::string layer;  ///< the weight's name; empty: of all layers
};

/// A result as bytes: a digest of all that follows, a line of JSON that describes the tensors, and their bytes.
std::string bytes_of(const ResultKey& key, const LayerResult& result);
/// @param path where they are from, for the error
/// @throws Error kIo saying why they are no such result: damaged, or of another run, step or layer
LayerResult result_from(const std::string& bytes, const ResultKey& key, const std::string& path);

/// Writes one result. `path` never holds half of one. @throws Error kIo
void write_result(const std::string& path, const ResultKey& key, const LayerResult& result);

/// @throws Error kIo as result_from
LayerResult read_result(const std::string& path, const ResultKey& key);

}  // namespace tsquant
