#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "io/named_tensors.h"
#include "io/zip_reader.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// NumPy itself reads no more than this unless it is told to trust the file.
constexpr uint32_t kLongestHeader = 10000;

[[noreturn]] void refuse_array(const std::string& message, const std::string& place) {
  throw Error(ErrorCode::kDataset, message, place, "write the array with numpy.save in a numeric dtype");
}

c10::ScalarType dtype_of(const std::string& descr, const std::string& place) {
  static const std::map<std::string, c10::ScalarType> known = {
      {"b1", c10::kBool}, {"u1", c10::kByte}, {"i1", c10::kChar},  {"i2", c10::kShort}, {"i4", c10::kInt},
      {"i8", c10::kLong}, {"f2", c10::kHalf}, {"f4", c10::kFloat}, {"f8", c10::kDouble}};
  const auto found = known.find(descr.size() == 3 ? descr.substr(1) : "");
  if (found == known.end() || descr[0] == '>')
    refuse_array(fmt::format("arrays of dtype '{}' are not supported", descr.substr(0, 100)), place);
  return found->second;
}

/// The fields of an array's header, the text of a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape':
/// (3,)}`.
class NpyHeader {
 public:
  NpyHeader(const std::string& text, const std::string& place) : text_(text), place_(place) {}

  std::string quoted(const std::string& key) const {
    const size_t begin = value_of(key);
    require(text_[begin] == '\'');
    const size_t end = text_.find('\'', begin + 1);
    require(end != std::string::npos);
    return text_.substr(begin + 1, end - begin - 1);
  }

  bool boolean(const std::string& key) const {
    const size_t begin = value_of(key);
    const bool yes = text_.compare(begin, 4, "True") == 0;
    require(yes || text_.compare(begin, 5, "False") == 0);
    return yes;
  }

  /// Sizes whose product is no larger than int64; NumPy for Python 2 wrote an L behind each.
  std::vector<int64_t> sizes(const std::string& key) const {
    std::vector<int64_t> sizes;
    int64_t total = 1;
    size_t at = value_of(key);
    require(text_[at] == '(');
    for (at = after_spaces(at + 1); at < text_.size() && text_[at] != ')'; at = after_spaces(at)) {
      sizes.push_back(size_at(at));
      require(!__builtin_mul_overflow(total, std::max<int64_t>(sizes.back(), 1), &total));
      if (at < text_.size() && text_[at] == 'L') ++at;
      at = after_spaces(at);
      require(at < text_.size() && (text_[at] == ',' || text_[at] == ')'));
      if (text_[at] == ',') ++at;
    }
    require(at < text_.size() && sizes.size() <= kMostDimensions);
    return sizes;
  }

 private:
  static constexpr size_t kMostDimensions = 64;  // as NumPy

  void require(bool fine) const {
    if (!fine) refuse_array("the array's header is damaged", place_);
  }

  size_t after_spaces(size_t at) const { return std::min(text_.find_first_not_of(" \t\r\n", at), text_.size()); }

  /// The first byte of a field's value.
  size_t value_of(const std::string& key) const {
    const std::string quoted_key = "'" + key + "'";
    const size_t found = text_.find(quoted_key);
    require(found != std::string::npos);
    const size_t colon = after_spaces(found + quoted_key.size());
    require(colon < text_.size() && text_[colon] == ':');
    const size_t value = after_spaces(colon + 1);
    require(value < text_.size());
    return value;
  }

  int64_t size_at(size_t& at) const {
    constexpr size_t kMostDigits = 18;
    const size_t begin = at;
    int64_t size = 0;
    while (at < text_.size() && text_[at] >= '0' && text_[at] <= '9' && at - begin < kMostDigits) {
      size = size * 10 + (text_[at++] - '0');
    }
    require(at > begin);
    return size;
  }

  const std::string& text_;
  const std::string& place_;
};

/// The format is described in numpy/lib/format.py: magic, version, header length, a Python dict, the data.
at::Tensor parse_npy(const std::vector<char>& bytes, const std::string& place) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) refuse_array("this is no .npy array", place);
  const bool short_length = bytes[6] == 1;
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, short_length ? 2 : 4);
  const size_t start = short_length ? 10 : 12;
  if (length > bytes.size() - start) refuse_array("the array is truncated", place);
  if (length > kLongestHeader) refuse_array("the array's header is damaged", place);
  const std::string text(bytes.data() + start, length);
  const NpyHeader header(text, place);
  const auto dtype = dtype_of(header.quoted("descr"), place);
  const bool fortran = header.boolean("fortran_order");
  auto shape = header.sizes("shape");
  // A Fortran-ordered array is the transpose of a C-ordered one with the reversed shape.
  if (fortran) std::reverse(shape.begin(), shape.end());
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  const size_t available = bytes.size() - start - length;
  if (available / c10::elementSize(dtype) < static_cast<size_t>(count)) refuse_array("the array is truncated", place);
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
