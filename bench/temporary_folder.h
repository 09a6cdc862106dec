#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>

namespace tsquant::bench {

/// work(folder) in a fresh folder, which is removed at the end. @return exit status of the program; faults are printed
template <typename Work>
int in_temporary_folder(const Work& work) {
  namespace fs = std::filesystem;
  std::string folder = (fs::temp_directory_path() / "tsquant_bench_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  int code = 0;
  try {
    work(folder);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    code = 1;
  }
  fs::remove_all(folder);
  return code;
}

}  // namespace tsquant::bench
