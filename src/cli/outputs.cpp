#include "cli/outputs.h"

#include "io/output_target.h"
#include "tsquant/error.h"

namespace tsquant::cli {

namespace {

bool same(const Output& a, const Output& b) {
  if (a.path == "-" || b.path == "-") return a.path == b.path;
  return same_output(a.path, b.path);
}

}  // namespace

void check_outputs(const std::vector<Output>& outputs) {
  std::vector<Output> given;
  for (const auto& output : outputs) {
    if (output.path.empty()) continue;
    if (output.path != "-") check_output(output.path, output.content);
    for (const auto& other : given) {
      if (!same(output, other)) continue;
      throw Error(ErrorCode::kInvalidArgument, other.option + " and " + output.option + " name the same file",
                  output.path, "one would replace the other: give them different names");
    }
    given.push_back(output);
  }
}

}  // namespace tsquant::cli
