#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <torch/library.h>

#include <limits>
#include <map>
#include <random>

namespace tsquant::testing {
namespace {

constexpr int64_t kHuge = int64_t{1} << 62;
constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();

/// Arguments of a kind that no caller of sound mind gives, mixed with sound ones, by the type that a schema asks for.
class HostileArguments {
 public:
  explicit HostileArguments(uint32_t seed) : random_(seed) {}

  c10::IValue make(const c10::TypePtr& type) {
    switch (type->kind()) {
      case c10::TypeKind::TensorType:
        return tensor();
      case c10::TypeKind::OptionalType:
        return chance(4) ? c10::IValue() : make(type->expectRef<c10::OptionalType>().getElementType());
      case c10::TypeKind::IntType:
        return integer();
      case c10::TypeKind::FloatType:
      case c10::TypeKind::NumberType:
        return pick(kFloats);
      case c10::TypeKind::BoolType:
        return chance(2);
      case c10::TypeKind::StringType:
        return pick(kTexts);
      case c10::TypeKind::ListType:
        return list(type->expectRef<c10::ListType>().getElementType());
      case c10::TypeKind::ClassType:
        return packed(type);
      default:
        return {};
    }
  }

  /// Keeps packed parameters for the operators that read them.
  void keep(const c10::IValue& value) {
    if (value.isObject()) packs_[value.type()->annotation_str()].push_back(value);
  }

  bool chance(uint32_t of) { return random_() % of == 0; }

 private:
  template <typename T, size_t N>
  const T& pick(const T (&pool)[N]) {
    return pool[random_() % N];
  }

  int64_t integer() {
    static const int64_t kIntegers[] = {
        0, 1, 2, 3, -1, 4, 7, 12, 13, 14, 6, 128, 16, -5, 63, 99, 255, -128, 1000, int64_t{1} << 40, kHuge, kMin, kMax};
    return chance(3) ? pick(kIntegers) : static_cast<int64_t>(random_() % 4);
  }

  c10::IValue list(const c10::TypePtr& element) {
    const size_t length = random_() % 5;
    if (element->kind() == c10::TypeKind::IntType) {
      std::vector<int64_t> values;
      const bool sound = chance(2);
      for (size_t i = 0; i < length; ++i) values.push_back(sound ? 1 + random_() % 3 : integer());
      return values;
    }
    c10::impl::GenericList values(element);
    for (size_t i = 0; i < length; ++i) values.push_back(make(element));
    return values;
  }

  c10::IValue packed(const c10::TypePtr& type) {
    const auto& known = packs_[type->annotation_str()];
    return known.empty() ? c10::IValue() : known[random_() % known.size()];
  }

  std::vector<int64_t> sizes() {
    std::vector<int64_t> sizes;
    const size_t rank = random_() % 6;
    for (size_t i = 0; i < rank; ++i) sizes.push_back(chance(8) ? 0 : 1 + random_() % 5);
    return sizes;
  }

  at::Tensor tensor() {
    at::Tensor x = at::randn(sizes());
    if (chance(6)) x.mul_(1e30);
    if (chance(8)) x.fill_(pick(kFloats));
    switch (random_() % 12) {
      case 0:
        return x.to(at::kChar);
      case 1:
        return x.to(pick(kTypes));
      case 2:
        return at::quantize_per_tensor(x, 0.1, 3, chance(2) ? at::kQUInt8 : at::kQInt8);
      case 3:
        return at::quantize_per_tensor(x, 0.1, 0, at::kQInt32);
      case 4:
        return per_channel(x);
      case 5:
        return x.dim() > 1 ? x.transpose(0, x.dim() - 1) : x;
      case 6:
        return x.dim() == 4 ? at::quantize_per_tensor(x, 0.1, 3, at::kQUInt8).contiguous(at::MemoryFormat::ChannelsLast)
                            : x.expand_as(x);
      case 7:
        return chance(3) ? x.to_sparse() : at::scalar_tensor(pick(kFloats));
      case 8:
        return chance(3) ? at::Tensor() : x.to(at::kMeta);
      case 9:
        return at::randint(-127, 128, sizes(), at::kChar);
      default:
        return x;
    }
  }

  at::Tensor per_channel(const at::Tensor& x) {
    if (x.dim() == 0) return x;
    const int64_t axis = random_() % x.dim();
    const auto scales = at::rand({x.size(axis)}, at::kDouble) + 0.01;
    return at::quantize_per_channel(x, scales, at::zeros({x.size(axis)}, at::kLong), axis, at::kQInt8);
  }

  static constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                          kInf = std::numeric_limits<double>::infinity();
  const double kFloats[12] = {0.1, 1.0, 0.02, 0.5, 0.0, -1.0, 1e-45, 1e300, kNan, kInf, -kInf, 1e-300};
  const std::string kTexts[6] = {"", "e4m3", "e5m2", "f8e4m3", "none", std::string(10000, 'x')};
  const at::ScalarType kTypes[7] = {at::kDouble, at::kLong, at::kInt, at::kBool, at::kHalf, at::kBFloat16, at::kByte};
  std::mt19937 random_;
  std::map<std::string, std::vector<c10::IValue>> packs_;
};

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

at::Tensor sound_tensor(const std::string& op, const std::string& name) {
  if (contains(op, "decomposed")) {
    if (name == "input") return contains(op, "dequantize") ? at::ones({4, 4}, at::kChar) : at::randn({4, 4});
    if (name == "zero_point" || name == "quant_min" || name == "zero_points")
      return at::zeros({name.back() == 's' ? 4 : 1}, at::kLong);
    if (name == "quant_max") return at::full({1}, 127, at::kLong);
    return at::full({name == "scales" ? 4 : 1}, 0.1);
  }
  if (name == "key") return at::quantize_per_tensor(at::randn({2, 4, 6, 6}), 0.1, 3, at::kQUInt8);
  if (name == "scales") return at::full({1}, 0.1f);
  if (name == "table") return at::arange(256).to(at::kByte);
  if (name == "weight")
    return at::ones(contains(op, "conv") ? std::vector<int64_t>{8, 4, 3, 3} : std::vector<int64_t>{8, 4}, at::kChar);
  const at::Tensor x = contains(op, "linear") ? at::randn({3, 4}) : at::randn({2, 4, 6, 6});
  return op == "tsquant::quantize" || contains(op, "fp8") ? x : at::quantize_per_tensor(x, 0.1, 3, at::kQUInt8);
}

/// What a lowered file would give. @return None for what has no rule
c10::IValue sound_value(const std::string& op, const c10::Argument& argument) {
  static const std::map<std::string, c10::IValue> by_name = {{"scale", 0.1},
                                                             {"factor", 0.5},
                                                             {"zero_point", 3},
                                                             {"quant_min", -128},
                                                             {"quant_max", 127},
                                                             {"out_dtype", 6},
                                                             {"output_dtype", 6},
                                                             {"axis", 0},
                                                             {"eps", 1e-5},
                                                             {"group_size", 4},
                                                             {"groups", 1},
                                                             {"dim", 1},
                                                             {"output_padding", std::vector<int64_t>{0, 0}},
                                                             {"padding", std::vector<int64_t>{0, 0}},
                                                             {"output_size", std::vector<int64_t>{3, 3}},
                                                             {"format", "f8e4m3"}};
  const auto type = argument.type()->kind();
  if (type == c10::TypeKind::TensorType) return sound_tensor(op, argument.name());
  if (type == c10::TypeKind::BoolType) return false;
  if (type == c10::TypeKind::ListType && argument.name() == "tensors") {
    return std::vector<at::Tensor>(2, sound_tensor(op, "x"));
  }
  if (argument.name() == "masks") return std::vector<at::Tensor>(1, at::randn({4, 6, 6}));
  if (argument.name() == "dtype") return contains(op, "decomposed") ? 1 : 13;
  const auto found = by_name.find(argument.name());
  if (found != by_name.end() && !(type == c10::TypeKind::ListType && !found->second.isIntList())) return found->second;
  if (type == c10::TypeKind::ListType) return std::vector<int64_t>{1, 1};
  return {};
}

/// Reads every element, so that memory that does not belong to the result is noticed.
void read(const c10::IValue& value) {
  if (value.isTensor()) {
    const at::Tensor& x = value.toTensor();
    if (!x.defined() || x.is_meta() || x.is_sparse()) return;
    (x.is_quantized() ? x.int_repr() : x).clone();
  } else if (value.isTensorList()) {
    for (const at::Tensor& x : value.toTensorVector()) read(x);
  } else if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) read(element);
  }
}

std::vector<std::shared_ptr<torch::jit::Operator>> operators_of_the_library() {
  std::vector<std::shared_ptr<torch::jit::Operator>> found;
  for (const auto& candidate : torch::jit::getAllOperators()) {
    const std::string& name = candidate->schema().name();
    // Stand-ins of aten operators, registered by the library proper for its own runs: their arguments are LibTorch's.
    if (name.rfind("tsquant::deterministic_", 0) == 0) continue;
    if (name.rfind("tsquant::", 0) == 0 || name.rfind("quantized_decomposed::", 0) == 0) found.push_back(candidate);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a->schema().name(), a->schema().overload_name()) <
           std::make_pair(b->schema().name(), b->schema().overload_name());
  });
  return found;
}

/// Any arguments give a result or an exception. The sanitizers tell what else happens.
TEST(HostileCalls, GiveAResultOrAnException) {
  constexpr int kCalls = 10000;
  at::NoGradGuard no_grad;
  at::manual_seed(7);
  const auto operators = operators_of_the_library();
  ASSERT_GT(operators.size(), 25u);
  HostileArguments arguments(7);
  std::map<std::string, int> done;
  for (int call = 0; call < kCalls; ++call) {
    const auto& op = operators[static_cast<size_t>(call) % operators.size()];
    try {
      torch::jit::Stack stack;
      // In every eighth round all arguments are hostile, in the others some.
      const auto one_in = 1 + static_cast<uint32_t>(static_cast<size_t>(call) / operators.size()) % 8;
      for (const auto& argument : op->schema().arguments()) {
        const bool sound = !arguments.chance(one_in) && argument.type()->kind() != c10::TypeKind::ClassType;
        stack.push_back(sound ? sound_value(op->schema().name(), argument) : arguments.make(argument.type()));
      }
      op->getOperation()(stack);
      for (const auto& result : stack) {
        read(result);
        arguments.keep(result);
      }
      ++done[op->schema().name()];
    } catch (const std::exception&) {
      continue;
    }
  }
  // Calls that are all refused would show nothing.
  EXPECT_GT(done.size(), operators.size() / 2);
  for (const char* name : {"tsquant::quantize", "tsquant::conv_pack", "tsquant::conv", "tsquant::linear",
                           "tsquant::attention", "tsquant::attention_float", "tsquant::matmul"}) {
    EXPECT_GT(done[name], 0) << name;
  }
}

}  // namespace
}  // namespace tsquant::testing
