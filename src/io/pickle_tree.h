#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tsquant {

/// What an element of a pickle is, as far as LibTorch tells them apart.
enum class PickleKind : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kComplex,
  kString,
  kTuple,
  kList,
  kDict,
  kOrderedDict,  ///< collections.OrderedDict; for LibTorch None
  kObject,       ///< of a TorchScript class
  kEnum,
  kTensor,
  kSparseTensor,
  kStorage,
  kStorageType,  ///< torch.FloatStorage, ...
  kScheme,       ///< torch.per_tensor_affine, ...
  kDevice,
  kFunction,  ///< what REDUCE and BUILD call
};

/// What a pickle describes, as numbered nodes: containers name their elements by number, so that shared and self-
/// containing ones cost no more than the stream is long.
struct PickleNode {
  PickleKind kind = PickleKind::kNone;
  /// kBool, kInt: the value; kTensor, kStorage: elements; kStorageType, kScheme, kFunction: which one
  int64_t number = 0;
  /// kString: its bytes; kFunction, kEnum: module and name of a class, each with a line break; lies in the stream
  std::string_view text;
  /// Containers: the elements, of dicts keys and values in turn; kTensor: storage and sizes; kStorage: its type;
  /// kObject, kEnum: what it is made from
  std::vector<uint32_t> parts;
};

struct PickleTree {
  std::vector<PickleNode> nodes;
  uint32_t root = 0;

  const PickleNode& operator[](uint32_t node) const { return nodes[node]; }
  const PickleNode& part(const PickleNode& node, size_t i) const { return nodes[node.parts[i]]; }
};

/// Why everything that walks the value of a pickle by recursion would fail: a container holds itself or is nested too
/// deeply, or shared containers are as many values as one with this number of elements. "" when nothing is wrong.
std::string nesting_fault(const PickleTree& tree, uint64_t most_values);

}  // namespace tsquant
