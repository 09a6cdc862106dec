#include "tsquant/model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "graph/copy_module.h"
#include "graph/error_text.h"
#include "graph/flatten_calls.h"
#include "graph/names.h"
#include "graph/params.h"
#include "graph/tap_runner.h"
#include "io/torch_archive.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Module;

bool is_training(const Module& module) {
  for (const auto& child : module.modules()) {
    if (child.hasattr("training") && child.attr("training").isBool() && child.attr("training").toBool()) return true;
  }
  return false;
}

/// Everything under extra/ in the archive.
std::map<std::string, std::string> read_extra_files(TorchArchive& archive) {
  constexpr size_t kPrefix = 6;
  std::map<std::string, std::string> files;
  for (const auto& record : archive.names()) {
    if (record.compare(0, kPrefix, "extra/") != 0 || record.size() == kPrefix) continue;
    files.emplace(record.substr(kPrefix), archive.read(record));
  }
  return files;
}

}  // namespace

Model Model::load(const std::string& path, const CaptureOptions& options) {
  TorchArchive archive(path, model_archive());
  const Module module = archive.load_module();
  try {
    Model model = from(module, options);
    model.set_extra_files(read_extra_files(archive));
    if (archive.has("bytecode.pkl")) {
      model.warnings_.push_back(
          "the archive also holds bytecode for the lite interpreter, which is not written again: save the result with "
          "_save_for_lite_interpreter");
    }
    return model;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kModelLoad, "LibTorch cannot load the model: " + short_message(error), path);
  }
}

Model Model::from(const Module& module, const CaptureOptions& options) {
  if (!module.find_method("forward")) {
    throw Error(ErrorCode::kUnsupportedModel, "the module has no method `forward`", "forward",
                "export the model with a forward method");
  }
  Model model;
  model.module_ = copy_module(module);
  if (is_training(module)) {
    if (options.training_mode == TrainingMode::kRefuse) {
      throw Error(ErrorCode::kUnsupportedModel, "the module is in training mode", "training",
                  "call eval() before saving it, or allow tsquant to switch");
    }
    model.module_.eval();
    model.warnings_.push_back("the module was in training mode; the quantized copy is in evaluation mode");
  }
  flatten_calls(model);
  assign_names(model);
  std::set<std::string> unread;
  for (const auto& slot : unread_tensors(model)) unread.insert(slot.path);
  model.unread_ = std::make_shared<const std::set<std::string>>(std::move(unread));
  return model;
}

std::shared_ptr<torch::jit::Graph> Model::graph() const { return module_.get_method("forward").graph(); }

Module Model::finished_module() const { return copy_module(module_); }

Model Model::clone() const {
  Model copy;
  copy.module_ = copy_module(module_);
  copy.warnings_ = warnings_;
  copy.extra_files_ = extra_files_;
  copy.unread_ = unread_;
  return copy;
}

void Model::set_extra_files(std::map<std::string, std::string> files) {
  extra_files_ = std::make_shared<const std::map<std::string, std::string>>(std::move(files));
}

void Model::save(const std::string& path, const std::unordered_map<std::string, std::string>& extra_files) const {
  auto files = extra_files;
  files.insert(extra_files_->begin(), extra_files_->end());  // given ones win
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  // Written through a stream, the archive's records do not carry the file's name: equal models give equal files.
  std::ofstream file(temporary, std::ios::binary);
  const auto fail = [&](const std::string& what) {
    file.close();
    std::remove(temporary.c_str());
    throw Error(ErrorCode::kIo, "cannot write the model: " + what, path,
                "check that the folder exists, is writable and has room");
  };
  if (!file) fail("the file cannot be opened for writing");
  try {
    finished_module().save(file, files);
  } catch (const std::exception& error) {
    if (!file) fail(short_message(error));
    std::remove(temporary.c_str());
    throw Error(ErrorCode::kInternal, "LibTorch cannot write the graph: " + short_message(error), path,
                "please report this with the model");
  }
  file.close();
  if (!file) fail("the file could not be written completely");
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) fail(error.message());
}

c10::IValue Model::run(const Sample& sample) const { return TapRunner(*this, {}).run(sample, {}); }

std::vector<std::string> Model::input_names() const {
  std::vector<std::string> names;
  const auto& arguments = module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) names.push_back(arguments[i].name());
  return names;
}

}  // namespace tsquant
