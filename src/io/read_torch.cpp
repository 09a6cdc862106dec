#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/csrc/jit/serialization/unpickler.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "io/named_tensors.h"
#include "io/pickle_rewrite.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void fail(const std::string& message, const std::string& path, const std::string& advice = "") {
  throw Error(ErrorCode::kDataset, message, path, advice);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::vector<char> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read the data file", path, "check that it exists and is readable");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
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
      if (!fits) fail("the samples of a list differ in shape or dtype", name.empty() ? "list" : name);
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

NamedTensors read_module(const std::string& path) {
  NamedTensors result;
  const auto module = torch::jit::load(path, c10::kCPU);
  for (const auto& attribute : module.named_attributes(/*recurse=*/true)) {
    if (attribute.value.isTensor() && attribute.value.toTensor().defined()) {
      result.push_back({attribute.name, attribute.value.toTensor().detach()});
    }
  }
  return result;
}

/// As torch::jit::pickle_load, whose reader of the stream cannot be given other bytes.
c10::IValue read_saved_value(caffe2::serialize::PyTorchStreamReader& archive) {
  const auto record = archive.getRecord("data.pkl");
  const std::string pickle =
      readable_pickle({static_cast<const char*>(std::get<0>(record).get()), std::get<1>(record)});
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

}  // namespace

NamedTensors read_torch_file(const std::string& path) {
  NamedTensors result;
  try {
    const auto bytes = read_bytes(path);
    const bool is_zip = bytes.size() > 4 && bytes[0] == 'P' && bytes[1] == 'K';
    if (!is_zip) {
      if (bytes.empty() || static_cast<unsigned char>(bytes[0]) != 0x80) fail("this is no PyTorch data file", path);
      collect(torch::jit::unpickle(bytes.data(), bytes.size()), "", result);
    } else {
      caffe2::serialize::PyTorchStreamReader archive(path);
      if (archive.hasRecord("constants.pkl")) {
        result = read_module(path);
      } else {
        collect(read_saved_value(archive), "", result);
      }
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail("cannot read the data file: " + first_line(error.what()), path,
         "save a tensor, tuple, list or dict of tensors with torch.save, or a TorchScript module with buffers");
  }
  if (result.empty()) fail("the data file holds no tensors", path);
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
