#include "passes/graph_dumps.h"

#include <fmt/format.h>

#include <filesystem>

#include "io/output_file.h"
#include "io/output_target.h"

namespace tsquant {

namespace {

constexpr const char* kWhat = "dumped graphs";

std::string file_of(const RewriteRow& row) {
  return fmt::format("{:03}_{}.ir", &row - all_rewrites().data() + 1, row.name);
}

void write(const std::string& folder, const std::string& name, const Model& model) {
  write_file(folder + "/" + name, kWhat, model.graph()->toString(/*print_source_locations=*/false));
}

}  // namespace

void start_dumps(const std::string& folder, const Model& model) {
  check_output_folder(folder, kWhat);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_output(folder, kWhat, error.message());
  for (const auto& row : all_rewrites()) std::filesystem::remove(folder + "/" + file_of(row), error);
  write(folder, "000_captured.ir", model);
}

void dump_after(const RewriteRow& row, const std::string& folder, const Model& model) {
  write(folder, file_of(row), model);
}

}  // namespace tsquant
