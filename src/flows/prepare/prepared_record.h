#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>
#include <vector>

#include "lowering/observer_calls.h"
#include "lowering/quantized_io.h"
#include "tsquant/annotation.h"
#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// A submodule that stands in the place of another one, kept apart in the prepared model.
struct CustomModule {
  std::string attribute;           ///< of the root
  std::string path;                ///< of the float module
  std::string kind;                ///< "static", "dynamic" or "weight_only"; "standalone": prepared for itself
  std::vector<std::string> calls;  ///< names of the operators that call it
};

/// What a prepared module carries besides observers, as two attributes: a text and the example inputs. It survives
/// saving and loading, in Python too.
struct PreparedRecord {
  bool is_qat = false;
  Annotations annotations;
  ObserverNames observers;
  std::vector<std::string> names;  ///< of all operators (operator_names)
  std::map<std::string, std::string> options;
  std::vector<std::string> warnings;
  int64_t float_bytes = 0;
  QuantizedIo io;
  std::vector<CustomModule> custom_modules;
  Sample example;
};

void attach_record(torch::jit::Module& module, const PreparedRecord& record);

/// Reads the record and removes its attributes. @throws Error kInvalidArgument when there is none
PreparedRecord take_record(torch::jit::Module& module);

/// The names of all operators of `forward` in their order: archives do not keep them.
std::vector<std::string> operator_names(const Model& model);
/// @throws Error kInvalidArgument when the operators are others
void restore_operator_names(Model& model, const std::vector<std::string>& names);

}  // namespace tsquant
