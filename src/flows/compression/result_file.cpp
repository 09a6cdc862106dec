#include "flows/compression/result_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "calibration/fingerprint.h"
#include "io/json_text.h"
#include "io/output_file.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

constexpr const char* kFormat = "tsquant layer result 1";

[[noreturn]] void fail(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::kIo, message, path);
}

std::string digest_of(const std::string& head, const void* bytes, size_t size) {
  Digest digest;
  digest.add(head);
  digest.add(bytes, size);
  return digest.text();
}

json description_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  return {{"type", static_cast<int>(tensor.scalar_type())}, {"sizes", tensor.sizes().vec()}};
}

/// LibTorch ends the process for a number that is no type.
c10::ScalarType type_of(int number) {
  for (const auto type : {c10::kByte, c10::kChar, c10::kLong, c10::kFloat, c10::kDouble, c10::kHalf, c10::kBFloat16}) {
    if (static_cast<int>(type) == number) return type;
  }
  throw std::runtime_error("unknown type");
}

/// Takes the bytes of one tensor from those that begin at `begin`.
at::Tensor tensor_from(const json& description, const char*& begin, const char* end) {
  if (description.is_null()) return {};
  const auto type = type_of(description.at("type").get<int>());
  const at::Tensor tensor = at::empty(description.at("sizes").get<std::vector<int64_t>>(), type);
  if (tensor.nbytes() > static_cast<size_t>(end - begin)) throw std::runtime_error("too few bytes");
  if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), begin, tensor.nbytes());
  begin += tensor.nbytes();
  return tensor;
}

}  // namespace

std::string bytes_of(const ResultKey& key, const LayerResult& result) {
  json tensors = json::array();
  std::string bytes;
  for (const auto& tensor : result.tensors) {
    tensors.push_back(description_of(tensor));
    if (!tensor.defined() || tensor.numel() == 0) continue;
    const at::Tensor dense = tensor.contiguous();
    bytes.append(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
  }
  const std::string head = json{{"format", kFormat},  {"run", key.run},          {"step", key.step},
                                {"layer", key.layer}, {"values", result.values}, {"tensors", tensors}}
                               .dump() +
                           "\n";
  return digest_of(head, bytes.data(), bytes.size()) + "\n" + head + bytes;
}

LayerResult result_from(const std::string& bytes, const ResultKey& key, const std::string& path) {
  const size_t after_digest = bytes.find('\n');
  const size_t after_head = after_digest == std::string::npos ? after_digest : bytes.find('\n', after_digest + 1);
  if (after_head == std::string::npos) fail(path, "the file is damaged");
  const std::string digest = bytes.substr(0, after_digest);
  const std::string head = bytes.substr(after_digest + 1, after_head - after_digest);
  const char *begin = bytes.data() + after_head + 1, *end = bytes.data() + bytes.size();
  if (digest != digest_of(head, begin, static_cast<size_t>(end - begin))) fail(path, "the file is damaged");
  try {
    const json description = parse_json<json>(head);
    if (description.at("format") != kFormat || description.at("run") != key.run || description.at("step") != key.step ||
        description.at("layer") != key.layer) {
      fail(path, "the file is of another model, other data or options");
    }
    LayerResult result;
    result.values = description.at("values");
    for (const auto& tensor : description.at("tensors")) result.tensors.push_back(tensor_from(tensor, begin, end));
    return result;
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {  // LibTorch's and the parser's, of files that something else wrote
    fail(path, "the file is damaged");
  }
}

void write_result(const std::string& path, const ResultKey& key, const LayerResult& result) {
  OutputFile file(path, "result of a layer");
  file.write(bytes_of(key, result));
  file.commit();
}

LayerResult read_result(const std::string& path, const ResultKey& key) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, "the file cannot be read");
  return result_from({std::istreambuf_iterator<char>(file), {}}, key, path);
}

}  // namespace tsquant
