#include "tsquant/model.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "base/error_text.h"
#include "graph/copy_module.h"
#include "graph/flatten_calls.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/write_model.h"
#include "io/torch_archive.h"
#include "io/write_module.h"
#include "tsquant/error.h"
#include "tsquant/load_mapped.h"

namespace tsquant {

namespace {

using torch::jit::Module;

bool is_training(const Module& module) {
  for (const auto& child : module.modules()) {
    if (child.hasattr("training") && child.attr("training").isBool() && child.attr("training").toBool()) return true;
  }
  return false;
}

size_t hash_of_kinds(torch::jit::Graph& graph) {
  size_t hash = 0;
  for (const auto* node : all_nodes(graph.block())) hash = hash * 31 + static_cast<c10::unique_t>(node->kind());
  return hash;
}

/// Which parameters and buffers a module has, and how often each was written.
std::vector<std::pair<const void*, uint64_t>> versions_of(const Module& module) {
  std::vector<std::pair<const void*, uint64_t>> versions;
  const auto add = [&](const at::Tensor& tensor) {
    versions.emplace_back(tensor.unsafeGetTensorImpl(), tensor.is_inference() ? 0 : tensor._version());
  };
  for (const at::Tensor& tensor : module.parameters()) add(tensor);
  for (const at::Tensor& tensor : module.buffers()) add(tensor);
  return versions;
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

Model load_with(TensorValues values, const std::string& path, const CaptureOptions& options) {
  TorchArchive archive(path, model_archive());
  const Module module = archive.load_module(values);
  try {
    Model model = Model::from(module, options);
    model.set_extra_files(read_extra_files(archive));
    if (archive.has("bytecode.pkl")) {
      model.warnings().push_back(
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

/// Unread attributes that say something which no attribute that is read says.
std::set<std::string> own_content(const Model& model) {
  const auto unread = unread_attributes(model);
  std::set<std::string> tensors, result;
  for (const auto& slot : unread) {
    if (slot.value().isTensor()) tensors.insert(slot.path);
  }
  // Of tied weights, a traced graph may read one name alone.
  const auto read = attribute_storages(model, tensors), all = attribute_storages(model);
  for (const auto& slot : unread) {
    // Old recurrent layers list their weights a second time: such a list says nothing that the weights do not.
    if (!all_stored_in(slot.value().isTensor() ? read : all, slot.value())) result.insert(slot.path);
  }
  return result;
}

}  // namespace

Model Model::load(const std::string& path, const CaptureOptions& options) {
  return load_with(TensorValues::kInMemory, path, options);
}

Model load_mapped(const std::string& path, const CaptureOptions& options) {
  return load_with(TensorValues::kInFile, path, options);
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
  Source source{model.graph()->copy()};
  flatten_calls(model);
  assign_names(model);
  source.flat_nodes = hash_of_kinds(*model.graph());
  model.source_ = std::make_shared<const Source>(std::move(source));
  model.unread_ = std::make_shared<const std::set<std::string>>(own_content(model));
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
  copy.source_ = source_;
  return copy;
}

Model Model::capture_with_calls(const std::set<std::string>& paths) const {
  const auto refuse_if = [](bool changed, const char* what) {
    if (changed) throw Error(ErrorCode::kUnsupportedModel, what, "forward", "give the model as it was loaded");
  };
  refuse_if(hash_of_kinds(*graph()) != source_->flat_nodes, "the graph was rewritten after the model was captured");
  Model copy;
  if (source_->original) {
    refuse_if(versions_of(module_) != source_->tensors, "tensors were changed after the model was fused");
    copy = source_->original->clone();
    copy.extra_files_ = extra_files_;
    copy.warnings_ = warnings_;
  } else {
    copy = clone();
  }
  replace_forward(copy.module_, *copy.source_->forward->copy());
  flatten_calls(copy, paths);
  assign_names(copy);
  return copy;
}

void Model::set_original(const Model& original) {
  Source source{original.source_->forward, hash_of_kinds(*graph())};
  source.original =
      original.source_->original ? original.source_->original : std::make_shared<const Model>(original.clone());
  source.tensors = versions_of(module_);
  source_ = std::make_shared<const Source>(std::move(source));
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
  write_module(file, copy_for_file(model.module()), files);
}

std::vector<std::string> Model::input_names() const {
  std::vector<std::string> names;
  const auto& arguments = module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) names.push_back(arguments[i].name());
  return names;
}

}  // namespace tsquant
