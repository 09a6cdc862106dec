#include "io/pickle_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tsquant {

namespace {

using Kind = PickleKind;

enum class Function : int64_t {
  kClass,
  kTensor,
  kQuantizedTensor,
  kSparseTensor,
  kTypeTag,
  kList,
  kComplex,
  kOrderedDict,
  kDevice,
  kTableTensor,     ///< torch.jit._pickle.build_tensor_from_id: a tensor beside the stream
  kOldTableTensor,  ///< __main__.TensorID, of models before PyTorch 1.1
  kOldList,         ///< __main__.IntList
};

struct KnownFunction {
  const char* lines;
  Function function;
};

constexpr KnownFunction kFunctions[] = {
    {"torch._utils\n_rebuild_tensor_v2\n", Function::kTensor},
    {"torch._utils\n_rebuild_qtensor\n", Function::kQuantizedTensor},
    {"torch._utils\n_rebuild_sparse_tensor\n", Function::kSparseTensor},
    {"torch.jit._pickle\nrestore_type_tag\n", Function::kTypeTag},
    {"torch.jit._pickle\nbuild_intlist\n", Function::kList},
    {"torch.jit._pickle\nbuild_tensorlist\n", Function::kList},
    {"torch.jit._pickle\nbuild_doublelist\n", Function::kList},
    {"torch.jit._pickle\nbuild_boollist\n", Function::kList},
    {"torch.jit._pickle\nbuild_tensor_from_id\n", Function::kTableTensor},
    {"builtins\ncomplex\n", Function::kComplex},
    {"collections\nOrderedDict\n", Function::kOrderedDict},
    {"torch\ndevice\n", Function::kDevice},
    {"__main__\nTensorID\n", Function::kOldTableTensor},
    {"__main__\nIntList\n", Function::kOldList},
};

struct StorageType {
  const char* name;
  int64_t bytes;
  bool quantized = false;
  int64_t packed = 1;  ///< elements of a tensor in one of the storage
};

constexpr StorageType kStorageTypes[] = {
    {"Byte", 1},
    {"Char", 1},
    {"Short", 2},
    {"Int", 4},
    {"Long", 8},
    {"Half", 2},
    {"Float", 4},
    {"Double", 8},
    {"ComplexHalf", 4},
    {"ComplexFloat", 8},
    {"ComplexDouble", 16},
    {"Bool", 1},
    {"QInt8", 1, true},
    {"QUInt8", 1, true},
    {"QInt32", 4, true},
    {"BFloat16", 2},
    {"QUInt4x2", 1, true, 2},
    {"QUInt2x4", 1, true, 4},
};

/// In the order of at::QScheme.
constexpr const char* kSchemes[] = {"per_tensor_affine", "per_channel_affine", "per_tensor_symmetric",
                                    "per_channel_symmetric", "per_channel_affine_float_qparams"};
constexpr int64_t kPerTensor = 0, kPerChannel = 1, kPerChannelFloat = 4;

constexpr size_t kLongestName = 4096, kLongestType = 65536;
constexpr int kDeepestType = 64;

void require(bool fine, const std::string& fault) {
  if (!fine) throw PickleDamage(fault);
}

/// Names may hold anything but what a parser of types would nest.
void check_class_name(std::string_view lines) {
  require(lines.size() <= kLongestName && lines.find_first_of("[](), ") == std::string_view::npos,
          "the name of a class is damaged");
}

/// LibTorch parses types by recursion.
void check_type_text(std::string_view text) {
  require(text.size() <= kLongestType, "the text of a type is too long");
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '(') ++depth;
    if (c == ']' || c == ')') --depth;
    require(depth >= 0 && depth <= kDeepestType, "the text of a type is nested too deeply");
  }
}

/// The arguments of one call, looked at by their kinds.
class Arguments {
 public:
  Arguments(const PickleTree& tree, uint32_t node, const char* function)
      : tree_(tree), tuple_(tree[node]), function_(function) {
    require(tuple_.kind == Kind::kTuple, fmt::format("the arguments of {} are no tuple", function));
  }

  size_t size() const { return tuple_.parts.size(); }

  const PickleNode& at(size_t i, Kind kind) const {
    require(i < size() && tree_.part(tuple_, i).kind == kind, fmt::format("argument {} of {} is wrong", i, function_));
    return tree_.part(tuple_, i);
  }

  std::vector<int64_t> integers(size_t i) const {
    std::vector<int64_t> values;
    for (const uint32_t part : at(i, Kind::kTuple).parts) {
      require(tree_[part].kind == Kind::kInt,
              fmt::format("argument {} of {} holds something else than integers", i, function_));
      values.push_back(tree_[part].number);
    }
    return values;
  }

  uint32_t number(size_t i) const { return tuple_.parts.at(i); }

 private:
  const PickleTree& tree_;
  const PickleNode& tuple_;
  const char* function_;
};

/// Elements of a tensor of these sizes.
int64_t element_count(const std::vector<int64_t>& sizes) {
  // Later products with the size of an element stay inside int64.
  constexpr int64_t kMost = int64_t{1} << 58;
  int64_t count = 1;
  for (const int64_t size : sizes) {
    require(size >= 0, "a tensor has a negative size");
    require(!__builtin_mul_overflow(count, std::max<int64_t>(size, 1), &count) && count <= kMost,
            "a tensor is too large");
  }
  return std::count(sizes.begin(), sizes.end(), 0) > 0 ? 0 : count;
}

/// Elements of the storage that a tensor reaches.
int64_t reach(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, int64_t offset) {
  int64_t last = offset;
  for (size_t d = 0; d < sizes.size(); ++d) {
    int64_t step = 0;
    require(strides[d] >= 0, "a tensor has a negative stride");
    require(!__builtin_mul_overflow(sizes[d] - 1, strides[d], &step) && !__builtin_add_overflow(last, step, &last),
            "a tensor reaches beyond its storage");
  }
  return last;
}

/// scale and zero point, or one of each per channel.
void check_quantizer(const PickleTree& tree, const Arguments& tensor, const std::vector<int64_t>& sizes) {
  tensor.at(4, Kind::kTuple);
  const Arguments quantizer(tree, tensor.number(4), "a quantized tensor");
  const int64_t scheme = quantizer.at(0, Kind::kScheme).number;
  if (scheme == kPerTensor) {
    quantizer.at(1, Kind::kFloat);
    quantizer.at(2, Kind::kInt);
    return;
  }
  require(scheme == kPerChannel || scheme == kPerChannelFloat, "a quantized tensor has an unknown scheme");
  const int64_t axis = quantizer.at(3, Kind::kInt).number;
  require(axis >= 0 && axis < static_cast<int64_t>(sizes.size()), "a quantized tensor has no such channel axis");
  const int64_t channels = sizes[static_cast<size_t>(axis)];
  require(quantizer.at(1, Kind::kTensor).number == channels && quantizer.at(2, Kind::kTensor).number == channels,
          "a quantized tensor has not one scale and zero point per channel");
}

PickleNode rebuilt_tensor(const PickleTree& tree, uint32_t arguments, bool quantized) {
  const Arguments call(tree, arguments, "a tensor");
  const PickleNode& storage = call.at(0, Kind::kStorage);
  const StorageType& type = kStorageTypes[tree.part(storage, 0).number];
  const int64_t offset = call.at(1, Kind::kInt).number;
  const auto sizes = call.integers(2), strides = call.integers(3);
  require(type.quantized == quantized, "a tensor and its storage differ in being quantized");
  require(sizes.size() == strides.size(), "a tensor has not one stride per size");
  require(offset >= 0, "a tensor begins before its storage");
  if (quantized) check_quantizer(tree, call, sizes);
  call.at(quantized ? 5 : 4, Kind::kBool);
  const int64_t count = element_count(sizes);
  require(count == 0 || reach(sizes, strides, offset) / type.packed < storage.number,
          "a tensor reaches beyond its storage");
  PickleNode tensor;
  tensor.kind = Kind::kTensor;
  tensor.number = count;
  tensor.parts = {call.number(0), call.number(2)};
  return tensor;
}

/// Its indices are numbers in a record, which only the loaded tensor shows.
PickleNode rebuilt_sparse_tensor(const PickleTree& tree, uint32_t arguments, const PickleRules& rules) {
  constexpr int64_t kCoordinates = 1, kCompressedRows = 2;  // c10::Layout
  require(rules.sparse, "sparse tensors are not read");
  const Arguments call(tree, arguments, "a sparse tensor");
  const int64_t layout = call.at(0, Kind::kInt).number;
  require(layout == kCoordinates || layout == kCompressedRows, "a sparse tensor has an unknown layout");
  element_count(call.integers(1));
  call.at(2, Kind::kBool);
  PickleNode tensor;
  tensor.kind = Kind::kSparseTensor;
  for (size_t i = 3; i < (layout == kCoordinates ? 5U : 6U); ++i) {
    call.at(i, Kind::kTensor);
    tensor.parts.push_back(call.number(i));
  }
  return tensor;
}

/// A list or dict with the text of its type.
uint32_t tagged(const PickleTree& tree, uint32_t arguments) {
  const Arguments call(tree, arguments, "restore_type_tag");
  const std::string_view type = call.at(1, Kind::kString).text;
  check_type_text(type);
  call.at(0, type.substr(0, 4) == "Dict" ? Kind::kDict : Kind::kList);
  return call.number(0);
}

PickleNode plain_node(Kind kind, int64_t number = 0) {
  PickleNode node;
  node.kind = kind;
  node.number = number;
  return node;
}

/// The results that are new nodes.
PickleNode made_by(const PickleTree& tree, const PickleNode& function, uint32_t arguments, const PickleRules& rules) {
  switch (static_cast<Function>(function.number)) {
    case Function::kTensor:
      return rebuilt_tensor(tree, arguments, false);
    case Function::kQuantizedTensor:
      return rebuilt_tensor(tree, arguments, true);
    case Function::kSparseTensor:
      return rebuilt_sparse_tensor(tree, arguments, rules);
    case Function::kComplex: {
      const Arguments call(tree, arguments, "complex");
      require(call.size() == 2, "a complex number has two parts");
      call.at(0, Kind::kFloat);
      call.at(1, Kind::kFloat);
      return plain_node(Kind::kComplex);
    }
    case Function::kDevice:
      Arguments(tree, arguments, "device").at(0, Kind::kString);
      return plain_node(Kind::kDevice);
    case Function::kOrderedDict:
      require(!rules.python || (tree[arguments].kind == Kind::kTuple && tree[arguments].parts.empty()),
              "an OrderedDict is made from something else than its entries");
      return plain_node(rules.python ? Kind::kOrderedDict : Kind::kNone);
    case Function::kTableTensor:
      Arguments(tree, arguments, "build_tensor_from_id").at(0, Kind::kInt);
      return plain_node(Kind::kTensor);
    case Function::kOldTableTensor:
      require(tree[arguments].kind == Kind::kInt, "the number of a tensor is wrong");
      return plain_node(Kind::kTensor);
    default: {
      PickleNode object = plain_node(Kind::kObject);
      object.text = function.text;
      object.parts = {arguments};
      return object;
    }
  }
}

}  // namespace

PickleNode pickle_global(std::string_view lines, const PickleRules& rules) {
  for (const auto& known : kFunctions) {
    if (lines == known.lines) return plain_node(Kind::kFunction, static_cast<int64_t>(known.function));
  }
  const std::string_view module = lines.substr(0, lines.find('\n'));
  const std::string_view name = lines.substr(module.size() + 1, lines.size() - module.size() - 2);
  if (module == "torch") {
    for (size_t i = 0; i < std::size(kStorageTypes); ++i) {
      if (name == std::string(kStorageTypes[i].name) + "Storage") {
        return plain_node(Kind::kStorageType, static_cast<int64_t>(i));
      }
    }
    for (size_t i = 0; i < std::size(kSchemes); ++i) {
      if (name == kSchemes[i]) return plain_node(Kind::kScheme, static_cast<int64_t>(i));
    }
  }
  check_class_name(lines);
  require(rules.classes && module.substr(0, 9) == "__torch__",
          fmt::format("it needs {}.{}, which only Python has", module, name));
  PickleNode node = plain_node(Kind::kFunction, static_cast<int64_t>(Function::kClass));
  node.text = lines;
  return node;
}

PickleNode pickle_storage(const PickleTree& tree, const PickleNode& arguments, const PickleRules& rules) {
  const auto at = [&](size_t i, Kind kind) -> const PickleNode& {
    require(arguments.kind == Kind::kTuple && i < arguments.parts.size() && tree.part(arguments, i).kind == kind,
            "the description of a storage is wrong");
    return tree.part(arguments, i);
  };
  require(at(0, Kind::kString).text == "storage", "the description of a storage is wrong");
  const StorageType& type = kStorageTypes[at(1, Kind::kStorageType).number];
  const std::string key(at(2, Kind::kString).text);
  at(3, Kind::kString);
  const int64_t elements = at(4, Kind::kInt).number;
  require(elements >= 0, "a storage has a negative size");
  if (elements > 0) {
    const auto bytes = rules.storage_bytes(key);
    require(bytes.has_value(), fmt::format("the record of tensor data {} is missing", key.substr(0, 100)));
    require(static_cast<uint64_t>(elements) <= *bytes / static_cast<uint64_t>(type.bytes),
            fmt::format("the record of tensor data {} is too short", key.substr(0, 100)));
  }
  PickleNode storage = plain_node(Kind::kStorage, elements);
  storage.parts = {arguments.parts[1]};
  return storage;
}

uint32_t call_pickle_function(PickleTree& tree, uint32_t function, uint32_t arguments, const PickleRules& rules) {
  require(tree[function].kind == Kind::kFunction, "something else than a function is called");
  switch (static_cast<Function>(tree[function].number)) {
    case Function::kTypeTag:
      return tagged(tree, arguments);
    case Function::kList: {
      const Arguments call(tree, arguments, "a typed list");
      call.at(0, Kind::kList);
      return call.number(0);
    }
    case Function::kOldList:
      require(tree[arguments].kind == Kind::kList, "a typed list is made from something else");
      return arguments;
    default:
      tree.nodes.push_back(made_by(tree, tree[function], arguments, rules));
      return static_cast<uint32_t>(tree.nodes.size() - 1);
  }
}

}  // namespace tsquant
