#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <regex>

#include "io/named_tensors.h"
#include "io/zip_reader.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void fail(const std::string& message, const std::string& place) {
  throw Error(ErrorCode::kDataset, message, place, "write the array with numpy.save in a numeric dtype");
}

c10::ScalarType dtype_of(const std::string& descr, const std::string& place) {
  static const std::map<std::string, c10::ScalarType> known = {
      {"b1", c10::kBool}, {"u1", c10::kByte}, {"i1", c10::kChar},  {"i2", c10::kShort}, {"i4", c10::kInt},
      {"i8", c10::kLong}, {"f2", c10::kHalf}, {"f4", c10::kFloat}, {"f8", c10::kDouble}};
  const auto found = known.find(descr.size() == 3 ? descr.substr(1) : "");
  if (found == known.end() || descr[0] == '>')
    fail(fmt::format("arrays of dtype '{}' are not supported", descr), place);
  return found->second;
}

std::string header_field(const std::string& header, const std::string& pattern, const std::string& place) {
  std::smatch match;
  if (!std::regex_search(header, match, std::regex(pattern))) fail("the array's header is damaged", place);
  return match[1];
}

std::vector<int64_t> parse_shape(const std::string& text, const std::string& place) {
  std::vector<int64_t> shape;
  int64_t total = 1;
  static const std::regex digits(R"(\d+)");
  for (std::sregex_iterator it(text.begin(), text.end(), digits), end; it != end; ++it) {
    if (it->length() > 15) fail("the array's shape is damaged", place);
    shape.push_back(std::stoll(it->str()));
    if (__builtin_mul_overflow(total, std::max<int64_t>(shape.back(), 1), &total)) {
      fail("the array's shape is damaged", place);
    }
  }
  return shape;
}

/// The format is described in numpy/lib/format.py: magic, version, header length, a Python dict, the data.
at::Tensor parse_npy(const std::vector<char>& bytes, const std::string& place) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) fail("this is no .npy array", place);
  const bool short_length = bytes[6] == 1;
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, short_length ? 2 : 4);
  const size_t start = short_length ? 10 : 12;
  if (length > bytes.size() - start) fail("the array is truncated", place);
  const std::string header(bytes.data() + start, length);
  const auto dtype = dtype_of(header_field(header, R"('descr'\s*:\s*'([^']*)')", place), place);
  const bool fortran = header_field(header, R"('fortran_order'\s*:\s*(True|False))", place) == "True";
  auto shape = parse_shape(header_field(header, R"('shape'\s*:\s*\(([^)]*)\))", place), place);
  // A Fortran-ordered array is the transpose of a C-ordered one with the reversed shape.
  if (fortran) std::reverse(shape.begin(), shape.end());
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  const size_t available = bytes.size() - start - length;
  if (available / c10::elementSize(dtype) < static_cast<size_t>(count)) fail("the array is truncated", place);
  auto tensor = at::empty(shape, dtype);
  if (count > 0) std::memcpy(tensor.data_ptr(), bytes.data() + start + length, tensor.nbytes());
  if (!fortran) return tensor;
  std::vector<int64_t> order;
  for (int64_t d = tensor.dim() - 1; d >= 0; --d) order.push_back(d);
  return tensor.permute(order);
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

NamedTensors read_numpy_file(const std::string& path) {
  NamedTensors result;
  if (ends_with(path, ".npy")) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(ErrorCode::kDataset, "cannot read the data file", path, "check that it exists");
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    result.push_back({"array", parse_npy(bytes, path)});
    return result;
  }
  ZipReader zip(path);
  for (const auto& member : zip.members()) {
    if (!ends_with(member.name, ".npy")) continue;
    const std::string name = member.name.substr(0, member.name.size() - 4);
    result.push_back({name, parse_npy(zip.read(member), path + ":" + name)});
  }
  if (result.empty()) throw Error(ErrorCode::kDataset, "the file holds no arrays", path);
  return result;
}

}  // namespace tsquant
