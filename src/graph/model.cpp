#include "tsquant/model.h"

#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/custom_class.h>

#include <filesystem>
#include <regex>
#include <set>

#include "graph/copy_module.h"
#include "graph/flatten_calls.h"
#include "graph/names.h"
#include "graph/params.h"
#include "graph/write_model.h"
#include "io/input_path.h"
#include "io/write_module.h"
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

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// Operators and classes named in the archive's code that no loaded library defines.
std::set<std::string> missing_definitions(caffe2::serialize::PyTorchStreamReader& reader) {
  static const std::regex operator_call(R"(\bops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)\s*\()");
  static const std::regex class_name(R"(__torch__\.torch\.classes\.[A-Za-z_]\w*\.[A-Za-z_]\w*)");
  std::set<std::string> missing;
  for (const auto& record : reader.getAllRecords()) {
    if (record.compare(0, 5, "code/") != 0 || record.size() < 3 || record.substr(record.size() - 3) != ".py") continue;
    const auto data = reader.getRecord(record);
    const std::string code(static_cast<const char*>(std::get<0>(data).get()), std::get<1>(data));
    for (std::sregex_iterator it(code.begin(), code.end(), operator_call), end; it != end; ++it) {
      const std::string ns = (*it)[1], name = ns + "::" + (*it)[2].str();
      if (ns == "prim" || ns == "aten") continue;
      if (torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString(name)).empty()) missing.insert(name);
    }
    for (std::sregex_iterator it(code.begin(), code.end(), class_name), end; it != end; ++it) {
      if (!torch::getCustomClass(it->str())) missing.insert(it->str().substr(10));
    }
  }
  return missing;
}

/// Finds out what is wrong with a file before LibTorch tries, so that the message is about the file.
void check_archive(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::exists(path)) throw Error(ErrorCode::kModelLoad, "no such file", path, "check the path of the model");
  if (fs::is_directory(path)) throw Error(ErrorCode::kModelLoad, "this is a folder, not a model file", path);
  require_readable(path, ErrorCode::kModelLoad);
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> reader;
  try {
    reader = std::make_unique<caffe2::serialize::PyTorchStreamReader>(path);
  } catch (const std::exception&) {
    throw Error(ErrorCode::kModelLoad, "the file is damaged, truncated or no zip archive", path,
                "save the model again with torch.jit.save");
  }
  if (!reader->hasRecord("constants.pkl") && !reader->hasRecord("model.json")) {
    throw Error(ErrorCode::kModelLoad, "the archive holds no TorchScript module", path,
                "a file written by torch.save holds tensors or a Python object only; use torch.jit.save");
  }
  const auto missing = missing_definitions(*reader);
  if (!missing.empty()) {
    throw Error(ErrorCode::kModelLoad,
                fmt::format("the model uses definitions that no loaded library has: {}", fmt::join(missing, ", ")),
                path, "load the library that defines them first (dlopen, or --library FILE)");
  }
}

/// Everything under extra/ in the archive.
std::map<std::string, std::string> read_extra_files(caffe2::serialize::PyTorchStreamReader& reader) {
  constexpr size_t kPrefix = 6;
  std::map<std::string, std::string> files;
  for (const auto& record : reader.getAllRecords()) {
    if (record.compare(0, kPrefix, "extra/") != 0 || record.size() == kPrefix) continue;
    const auto data = reader.getRecord(record);
    files.emplace(record.substr(kPrefix),
                  std::string(static_cast<const char*>(std::get<0>(data).get()), std::get<1>(data)));
  }
  return files;
}

}  // namespace

Model Model::load(const std::string& path, const CaptureOptions& options) {
  check_archive(path);
  try {
    Model model = from(torch::jit::load(path, c10::kCPU), options);
    caffe2::serialize::PyTorchStreamReader reader(path);
    model.set_extra_files(read_extra_files(reader));
    if (reader.hasRecord("bytecode.pkl")) {
      model.warnings_.push_back(
          "the archive also holds bytecode for the lite interpreter, which is not written again: save the result with "
          "_save_for_lite_interpreter");
    }
    return model;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kModelLoad, "LibTorch cannot load the model: " + first_line(error.what()), path);
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
  OutputFile file(path, "model");
  write_model(*this, extra_files, file);
  file.commit();
}

void write_model(const Model& model, const std::unordered_map<std::string, std::string>& extra_files,
                 OutputFile& file) {
  auto files = extra_files;
  files.insert(model.extra_files().begin(), model.extra_files().end());  // given ones win
  write_module(file, model.finished_module(), files);
}

std::vector<std::string> Model::input_names() const {
  std::vector<std::string> names;
  const auto& arguments = module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) names.push_back(arguments[i].name());
  return names;
}

}  // namespace tsquant
