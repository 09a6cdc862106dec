#include "io/pickle_rewrite.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "io/pickle_stream.h"

namespace tsquant {

namespace {

constexpr const char* kOrderedDict = "ccollections\nOrderedDict\n";
/// Takes a value and the name of its type, and returns the value.
constexpr const char* kRestoreTypeTag = "ctorch.jit._pickle\nrestore_type_tag\n";
/// EMPTY_DICT, BINUNICODE with its length, TUPLE2.
const std::string kEmptyDictArguments = std::string("}X\x0e\x00\x00\x00", 6) + "Dict[Any, Any]\x86";

/// Follows a stream without building objects: what begins where in the bytes, and what is to be written there instead.
class StreamWalk {
 public:
  explicit StreamWalk(const std::string& pickle) : pickle_(pickle), stream_(pickle) {}

  /// False when the stream has an opcode that this class does not know, or ends before STOP.
  bool run() {
    while (stream_.next()) {
      if (stream_.code() == '.') return true;
      if (!step(stream_.code())) return false;
    }
    return false;
  }

  std::string rewritten() {
    if (fills_ordered_dict_) edits_.insert(edits_.end(), ordered_dicts_.begin(), ordered_dicts_.end());
    // A mark goes before what stands at the same byte.
    std::sort(edits_.begin(), edits_.end(), [](const Edit& a, const Edit& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.removed < b.removed;
    });
    std::string result;
    size_t from = 0;
    for (const Edit& edit : edits_) {
      result.append(pickle_, from, edit.offset - from).append(edit.text);
      from = edit.offset + edit.removed;
    }
    return result.append(pickle_, from, std::string::npos);
  }

 private:
  enum class Kind { kOther, kEmptyTuple, kOrderedDictClass, kOrderedDict };
  struct Element {
    size_t offset;  ///< its first byte
    Kind kind = Kind::kOther;
  };
  struct Mark {
    size_t depth, offset;
  };
  struct Edit {
    size_t offset, removed;
    std::string text;
  };

  /// What the opcode does to the stack.
  bool step(char code) {
    switch (code) {
      case '\x80':  // PROTO
        return true;
      case 'q':  // BINPUT
      case 'r':  // LONG_BINPUT
        return remember();
      case 'h':  // BINGET
      case 'j':  // LONG_BINGET
        return push(memo_[stream_.number()]);
      case '(':  // MARK
        marks_.push_back({stack_.size(), stream_.begin()});
        return true;
      case 't':  // TUPLE
        return close_tuple();
      case 'e':  // APPENDS
      case 'u':  // SETITEMS
        return close_items();
      case 'a':  // APPEND
        return mark_items(1, "e");
      case 's':  // SETITEM
        return mark_items(2, "u");
      case '\x85':  // TUPLE1
      case 'Q':     // BINPERSID
        return combine(1);
      case '\x86':  // TUPLE2
      case 'b':     // BUILD
      case '\x81':  // NEWOBJ
        return combine(2);
      case 'R':  // REDUCE
        return reduce();
      case '\x87':  // TUPLE3
        return combine(3);
      default:
        return push_value(code);
    }
  }

  bool push(Kind kind) {
    stack_.push_back({stream_.begin(), kind});
    return true;
  }

  bool push_value(char code) {
    static const std::string kValues = "N\x88\x89KMJG\x8aUXTc)]}";
    if (kValues.find(code) == std::string::npos) return false;
    if (code == ')') return push(Kind::kEmptyTuple);
    if (code == '\x8a') widen();
    const bool ordered = stream_.bytes() == kOrderedDict;
    if (ordered) ordered_dicts_.push_back({stream_.begin(), stream_.bytes().size(), kRestoreTypeTag});
    return push(ordered ? Kind::kOrderedDictClass : Kind::kOther);
  }

  /// Little-endian two's complement: the highest bit is repeated.
  void widen() {
    std::string bytes(stream_.argument());
    if (bytes.size() >= 8) return;
    const bool negative = !bytes.empty() && (bytes.back() & 0x80);
    bytes.resize(8, negative ? '\xff' : '\0');
    edits_.push_back({stream_.begin(), stream_.bytes().size(), "\x8a\x08" + bytes});
  }

  bool remember() {
    if (stack_.empty()) return false;
    memo_[stream_.number()] = stack_.back().kind;
    return true;
  }

  /// The topmost `count` elements become one, which begins with the first of them.
  bool combine(size_t count) {
    if (stack_.size() < floor() + count) return false;
    stack_.resize(stack_.size() - count + 1, Element{0});
    stack_.back().kind = Kind::kOther;
    return true;
  }

  bool reduce() {
    if (stack_.size() < floor() + 2) return false;
    const Element arguments = stack_.back();
    const bool ordered = stack_[stack_.size() - 2].kind == Kind::kOrderedDictClass;
    if (ordered && arguments.kind != Kind::kEmptyTuple) return false;
    combine(2);
    if (!ordered) return true;
    ordered_dicts_.push_back({arguments.offset, 1, kEmptyDictArguments});
    stack_.back().kind = Kind::kOrderedDict;
    return true;
  }

  bool close_tuple() {
    if (marks_.empty()) return false;
    const Mark mark = marks_.back();
    stack_.resize(mark.depth, Element{0});
    stack_.push_back({mark.offset});
    marks_.pop_back();
    return true;
  }

  bool close_items() {
    if (marks_.empty() || marks_.back().depth == 0) return false;
    stack_.resize(marks_.back().depth, Element{0});
    marks_.pop_back();
    return fill();
  }

  bool mark_items(size_t count, const char* code) {
    if (stack_.size() < floor() + count + 1) return false;
    edits_.push_back({stack_[stack_.size() - count].offset, 0, "("});
    edits_.push_back({stream_.begin(), 1, code});
    stack_.resize(stack_.size() - count, Element{0});
    return fill();
  }

  /// The container on top has got entries.
  bool fill() {
    if (stack_.back().kind == Kind::kOrderedDict) fills_ordered_dict_ = true;
    return true;
  }

  /// Elements below the last mark are out of reach.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back().depth; }

  const std::string& pickle_;
  PickleStream stream_;
  std::vector<Element> stack_;
  std::vector<Mark> marks_;
  std::map<uint64_t, Kind> memo_;
  std::vector<Edit> edits_, ordered_dicts_;  ///< the latter only when one of them has entries
  bool fills_ordered_dict_ = false;
};

}  // namespace

std::string readable_pickle(const std::string& pickle) {
  StreamWalk walk(pickle);
  return walk.run() ? walk.rewritten() : pickle;
}

}  // namespace tsquant
