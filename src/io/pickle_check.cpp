#include "io/pickle_check.h"

#include <fmt/format.h>

#include <array>
#include <unordered_map>

#include "io/pickle_calls.h"
#include "io/pickle_stream.h"

namespace tsquant {

namespace {

using Kind = PickleKind;

/// Far above any model; keeps the nodes of a damaged file in memory.
constexpr size_t kLongestPickle = size_t{1} << 28;

bool may_be_key(Kind kind) {
  return kind == Kind::kInt || kind == Kind::kString || kind == Kind::kFloat || kind == Kind::kBool ||
         kind == Kind::kComplex || kind == Kind::kTensor || kind == Kind::kDevice;
}

class PickleChecker {
 public:
  PickleChecker(const std::string& pickle, const PickleRules& rules) : pickle_(pickle), rules_(rules), stream_(pickle) {
    for (size_t i = 0; i < small_.size(); ++i) small_[i] = make(Kind::kInt, static_cast<int64_t>(i));
    constants_ = {make(Kind::kNone), make(Kind::kBool, 1), make(Kind::kBool, 0), make(Kind::kFloat)};
  }

  PickleTree run() {
    check(pickle_.size() <= kLongestPickle, "it is longer than any model's");
    check(pickle_.compare(0, 2, "\x80\x02") == 0, "it does not begin as a pickle of protocol 2");
    stream_.next();
    while (stream_.next()) {
      if (stream_.code() == '.') return finished();
      step(stream_.code());
    }
    throw PickleDamage("it ends too early");
  }

  /// The instruction at which the stream was refused.
  size_t place() const { return stream_.begin(); }

 private:
  static void check(bool fine, const char* fault) {
    if (!fine) throw PickleDamage(fault);
  }

  PickleTree finished() {
    check(stack_.size() == 1 && marks_.empty(), "it ends with other than one value");
    tree_.root = stack_.front();
    const std::string fault = nesting_fault(tree_, rules_.most_values);
    check(fault.empty(), fault.c_str());
    return std::move(tree_);
  }

  void step(char code) {
    switch (code) {
      case '(':  // MARK
        return marks_.push_back(stack_.size());
      case 'q':  // BINPUT
      case 'r':  // LONG_BINPUT
        return remember();
      case 'h':  // BINGET
      case 'j':  // LONG_BINGET
        return recall();
      case 'c':  // GLOBAL
        return push(add(pickle_global(stream_.argument(), rules_)));
      case 'R':  // REDUCE
      case 'b':  // BUILD
        return call();
      case '\x81':  // NEWOBJ
        return new_object();
      case 'Q':  // BINPERSID
        return push(add(pickle_storage(tree_, tree_[take(1)[0]], rules_)));
      default:
        if (!step_container(code)) push(value(code));
    }
  }

  /// Opcodes that make or fill containers.
  bool step_container(char code) {
    switch (code) {
      case 't':  // TUPLE
        return make_container(Kind::kTuple, take_marked());
      case '\x85':  // TUPLE1
      case '\x86':  // TUPLE2
      case '\x87':  // TUPLE3
        return make_container(Kind::kTuple, take(static_cast<size_t>(static_cast<unsigned char>(code) - 0x84)));
      case ')':  // EMPTY_TUPLE
        return make_container(Kind::kTuple, {});
      case ']':  // EMPTY_LIST
        return make_container(Kind::kList, {});
      case '}':  // EMPTY_DICT
        return make_container(Kind::kDict, {});
      case 'l':  // LIST
        return make_container(Kind::kList, take_marked());
      case 'd':  // DICT
        return make_dict(take_marked());
      case 'e':  // APPENDS
        return fill_list(take_marked());
      case 'u':  // SETITEMS
        return fill_dict(take_marked());
      case 'a':  // APPEND
        check(rules_.python, "it has an unknown instruction");
        return fill_list(take(1));
      case 's':  // SETITEM
        check(rules_.python, "it has an unknown instruction");
        return fill_dict(take(2));
      default:
        return false;
    }
  }

  /// Opcodes that push a value without parts.
  uint32_t value(char code) {
    switch (code) {
      case 'N':  // NONE
        return constants_[0];
      case '\x88':  // NEWTRUE
        return constants_[1];
      case '\x89':  // NEWFALSE
        return constants_[2];
      case 'G':  // BINFLOAT
        return constants_[3];
      case 'K':  // BININT1
        return small_[stream_.number()];
      case 'M':  // BININT2
        return make(Kind::kInt, static_cast<int64_t>(stream_.number()));
      case 'J':  // BININT
        return make(Kind::kInt, static_cast<int32_t>(stream_.number()));
      case '\x8a':  // LONG1
        return make(Kind::kInt, long_integer());
      case 'X': {  // BINUNICODE
        const uint32_t node = make(Kind::kString);
        tree_.nodes[node].text = stream_.argument();
        return node;
      }
      default:
        throw PickleDamage("it has an unknown instruction");
    }
  }

  /// Two's complement of up to 8 bytes.
  int64_t long_integer() const {
    const size_t size = stream_.argument().size();
    check(rules_.python ? size <= 8 : size == 8, "it has an integer of a wrong length");
    if (size == 0) return 0;
    const unsigned unused = static_cast<unsigned>(8 * (8 - size));
    return static_cast<int64_t>(stream_.number() << unused) >> unused;
  }

  uint32_t add(PickleNode node) {
    tree_.nodes.push_back(std::move(node));
    return static_cast<uint32_t>(tree_.nodes.size() - 1);
  }

  uint32_t make(Kind kind, int64_t number = 0) {
    PickleNode node;
    node.kind = kind;
    node.number = number;
    return add(std::move(node));
  }

  void push(uint32_t node) { stack_.push_back(node); }

  bool make_container(Kind kind, std::vector<uint32_t> parts) {
    const uint32_t node = make(kind);
    tree_.nodes[node].parts = std::move(parts);
    push(node);
    return true;
  }

  bool make_dict(const std::vector<uint32_t>& items) {
    make_container(Kind::kDict, {});
    return fill_dict(items);
  }

  /// The topmost elements; those below the last mark are out of reach.
  std::vector<uint32_t> take(size_t count) {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    check(stack_.size() >= floor + count, "it takes a value from an empty stack");
    const std::vector<uint32_t> taken(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return taken;
  }

  std::vector<uint32_t> take_marked() {
    check(!marks_.empty(), "it lacks a mark");
    auto taken = take(stack_.size() - marks_.back());
    marks_.pop_back();
    return taken;
  }

  PickleNode& top(Kind kind, const char* fault) {
    const uint32_t node = take(1)[0];
    push(node);
    const bool ordered = kind == Kind::kDict && tree_[node].kind == Kind::kOrderedDict;
    check(tree_[node].kind == kind || ordered, fault);
    return tree_.nodes[node];
  }

  bool fill_list(const std::vector<uint32_t>& items) {
    auto& parts = top(Kind::kList, "it appends to something else than a list").parts;
    parts.insert(parts.end(), items.begin(), items.end());
    return true;
  }

  bool fill_dict(const std::vector<uint32_t>& items) {
    auto& parts = top(Kind::kDict, "it sets entries of something else than a dict").parts;
    check(items.size() % 2 == 0, "a key lacks its value");
    for (size_t i = 0; i < items.size(); i += 2) check(may_be_key(tree_[items[i]].kind), "a key cannot be looked up");
    parts.insert(parts.end(), items.begin(), items.end());
    return true;
  }

  /// LibTorch's memo is a list as long as the largest number, so numbers must not run away from the stream.
  void remember() {
    const uint64_t number = stream_.number();
    check(number <= pickle_.size(), "a number of the memo is too large");
    const uint32_t node = take(1)[0];
    push(node);
    memo_[number] = node;
  }

  void recall() {
    const auto found = memo_.find(stream_.number());
    check(found != memo_.end(), "the memo holds nothing under a number");
    push(found->second);
  }

  void new_object() {
    const auto& arguments = tree_[take(1)[0]];
    check(arguments.kind == Kind::kTuple && arguments.parts.empty(), "an object is made with arguments");
    top(Kind::kFunction, "an object is made of something else than a class");
  }

  void call() {
    const auto operands = take(2);
    const bool build = stream_.code() == 'b';
    const uint32_t result = call_pickle_function(tree_, operands[0], operands[1], rules_);
    // Enums are made by REDUCE, objects by BUILD.
    if (!build && tree_[result].kind == Kind::kObject) tree_.nodes[result].kind = Kind::kEnum;
    push(result);
  }

  const std::string& pickle_;
  const PickleRules& rules_;
  PickleStream stream_;
  PickleTree tree_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  ///< sizes of the stack
  std::unordered_map<uint64_t, uint32_t> memo_;
  std::array<uint32_t, 256> small_{};    ///< integers that stand for themselves
  std::array<uint32_t, 4> constants_{};  ///< None, True, False, a float
};

}  // namespace

PickleTree check_pickle(const std::string& pickle, const PickleRules& rules) {
  PickleChecker checker(pickle, rules);
  try {
    return checker.run();
  } catch (const PickleDamage& damage) {
    throw PickleDamage(fmt::format("{}, at byte {}", damage.what(), checker.place()));
  }
}

}  // namespace tsquant
