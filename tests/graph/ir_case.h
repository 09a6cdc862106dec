#pragma once

#include <torch/script.h>

#include <string>
#include <vector>

namespace tsquant::testing {

/// A graph test as a text file. Comment lines are directives, the rest is LibTorch IR:
/// ```
/// # RUN: fold_batch_norm            the pass
/// # PARAM weight: 4 3 3 3           a float parameter with this shape ("var" in the name: positive values)
/// # ATTR training: false            true, false, none, an integer or a list of integers
/// # INPUT: 1 3 8 8                  shape of a float input, or "bool true|false"; one line per input
/// # UNCHANGED                       the pass must report that it changed nothing
/// # CHECK: ... # CHECK-NOT: ...     LibTorch FileCheck on the printed result
/// graph(%self, %x : Tensor): ...
/// ```
struct IrCase {
  std::string text, pass, ir;
  bool unchanged = false;
  std::vector<std::pair<std::string, std::vector<int64_t>>> params;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<std::string> inputs;
};

IrCase read_ir_case(const std::string& path);

/// A module whose `forward` is the case's graph.
torch::jit::Module module_of(const IrCase& ir_case);

/// Reproducible inputs.
std::vector<c10::IValue> inputs_of(const IrCase& ir_case);

}  // namespace tsquant::testing
