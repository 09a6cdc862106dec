#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <torch/csrc/jit/serialization/unpickler.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/error_text.h"
#include "io/named_tensors.h"
#include "io/pickle_rewrite.h"
#include "io/torch_archive.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr const char* kAdvice =
    "save a tensor, tuple, list or dict of tensors with torch.save, or a TorchScript module with buffers";
/// Values that one data file may hold: containers that share others many times would be walked for hours.
constexpr uint64_t kMostValues = uint64_t{1} << 26;

[[noreturn]] void refuse_file(const std::string& message, const std::string& path, const std::string& advice = "") {
  throw Error(ErrorCode::kDataset, message, path, advice);
}

/// The first bytes of a file; fewer when it is shorter.
std::string beginning_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse_file("cannot read the data file", path, "check that it exists and is readable");
  char bytes[4] = {};
  file.read(bytes, sizeof(bytes));
  return {bytes, static_cast<size_t>(file.gcount())};
}

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

void collect(const c10::IValue& value, const std::string& name, NamedTensors& result);

std::string key_text(const c10::IValue& key) {
  if (key.isString()) return key.toStringRef();
  return key.isInt() ? std::to_string(key.toInt()) : "";
}

/// The samples of a list become one tensor per column: `[t0, t1]` gives one, `[(a0, b0), (a1, b1)]` gives two.
void collect_samples(const c10::ArrayRef<c10::IValue>& samples, const std::string& name, NamedTensors& result) {
  std::vector<NamedTensors> columns;
  for (const auto& sample : samples) {
    columns.emplace_back();
    collect(sample, name, columns.back());
  }
  for (size_t column = 0; !columns.empty() && column < columns.front().size(); ++column) {
    std::vector<at::Tensor> rows;
    for (const auto& sample : columns) {
      if (column < sample.size()) rows.push_back(sample[column].tensor);
    }
    const auto& first = rows.front();
    for (const auto& row : rows) {
      const bool fits = rows.size() == columns.size() && row.dim() == first.dim() && row.dtype() == first.dtype() &&
                        (row.dim() < 2 || row.sizes().slice(1) == first.sizes().slice(1));
      if (!fits) refuse_file("the samples of a list differ in shape or dtype", name.empty() ? "list" : name);
    }
    result.push_back({columns.front()[column].name, first.dim() == 0 ? at::stack(rows) : at::cat(rows)});
  }
}

void collect(const c10::IValue& value, const std::string& name, NamedTensors& result) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) result.push_back({name.empty() ? "tensor" : name, value.toTensor()});
  } else if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    for (size_t i = 0; i < elements.size(); ++i) collect(elements[i], joined(name, std::to_string(i)), result);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) collect(entry.value(), joined(name, key_text(entry.key())), result);
  } else if (value.isList()) {
    const auto list = value.toList();
    const std::vector<c10::IValue> samples(list.begin(), list.end());
    collect_samples(samples, name, result);
  }
}

NamedTensors read_module(TorchArchive& archive) {
  NamedTensors result;
  const auto module = archive.load_module();
  for (const auto& attribute : module.named_attributes(/*recurse=*/true)) {
    if (!attribute.value.isTensor() || !attribute.value.toTensor().defined()) continue;
    const at::Tensor tensor = attribute.value.toTensor().detach();
    if (tensor.layout() != at::kStrided) archive.fail("the data file holds a sparse tensor: " + attribute.name);
    result.push_back({attribute.name, tensor});
  }
  return result;
}

/// As torch::jit::pickle_load, whose reader of the stream cannot be given other bytes.
c10::IValue read_saved_value(TorchArchive& checked, const std::string& path) {
  PickleRules rules;
  rules.python = true;
  rules.sparse = false;
  rules.most_values = kMostValues;
  const std::string pickle = readable_pickle(checked.read_pickle("data.pkl", "data/", rules));
  caffe2::serialize::PyTorchStreamReader archive(path);
  size_t at = 0;
  const auto read = [&](char* target, size_t length) {
    length = std::min(length, pickle.size() - at);
    std::memcpy(target, pickle.data() + at, length);
    at += length;
    return length;
  };
  const auto read_storage = [&](const std::string& name) { return std::get<0>(archive.getRecord("data/" + name)); };
  torch::jit::Unpickler unpickler(read, nullptr, nullptr, read_storage, c10::Device(c10::kCPU));
  unpickler.set_version(archive.version());
  return unpickler.parse_ivalue();
}

NamedTensors read_archive(const std::string& path) {
  TorchArchive archive(path, {ErrorCode::kDataset, "the data file", kAdvice});
  if (archive.has("constants.pkl")) return read_module(archive);
  if (!archive.has("data.pkl")) archive.fail("the data file is an archive of another kind");
  NamedTensors result;
  collect(read_saved_value(archive, path), "", result);
  return result;
}

}  // namespace

NamedTensors read_torch_file(const std::string& path) {
  const std::string begin = beginning_of(path);
  if (begin.compare(0, 1, "\x80") == 0) {
    refuse_file("the data file is a pickle outside of an archive, as torch.save wrote before PyTorch 1.6", path,
                kAdvice);
  }
  if (begin.compare(0, 2, "PK") != 0) refuse_file("this is no PyTorch data file", path);
  NamedTensors result;
  try {
    result = read_archive(path);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    refuse_file("cannot read the data file: " + short_message(error), path, kAdvice);
  }
  if (result.empty()) refuse_file("the data file holds no tensors", path);
  return result;
}

std::string describe(const NamedTensors& tensors) {
  std::vector<std::string> parts;
  for (const auto& [name, tensor] : tensors) {
    parts.push_back(
        fmt::format("{} {} [{}]", name, c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", ")));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace tsquant
