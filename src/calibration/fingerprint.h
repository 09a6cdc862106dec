#pragma once

#include <map>
#include <string>

#include "tsquant/annotation.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

/// SHA-1 over everything that was added, for telling things apart; it is no protection against forgery.
class Digest {
 public:
  void add(const void* bytes, size_t count);
  /// With its length, so that "ab" + "c" differs from "a" + "bc".
  void add(const std::string& text);
  /// dtype, sizes and values, whatever the strides
  void add(const at::Tensor& tensor);
  /// Tensors inside lists, tuples and dictionaries by their values, everything else as LibTorch prints it.
  void add(const c10::IValue& value);
  /// 40 hexadecimal digits; the digest can be continued afterwards.
  std::string text() const;

 private:
  std::string block_;  ///< digest of the blocks before, then the bytes since
};

/// The graph, its constants, and all attributes of the module and its submodules.
std::string fingerprint(const Model& model);
/// All arguments of one sample.
std::string fingerprint(const Sample& sample);
/// The activation points: places and specs.
std::string fingerprint(const Annotations& annotations);
/// The weight points: places, specs, and what compression may do with them.
std::string weights_fingerprint(const Annotations& annotations);

}  // namespace tsquant
