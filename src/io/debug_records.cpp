#include "io/debug_records.h"

namespace tsquant {

namespace {

using Kind = PickleKind;

/// Either (table format mark, strings, records), or the records alone, whose sources are (text, file, line).
class DebugRecords {
 public:
  explicit DebugRecords(const PickleTree& tree) : tree_(tree) {}

  bool fit() {
    const PickleNode& root = tree_[tree_.root];
    if (root.kind != Kind::kTuple || root.parts.empty()) return false;  // LibTorch looks at the first part
    const bool with_table = tree_.part(root, 0).kind == Kind::kString;
    if (!with_table) return records_fit(root);
    if (root.parts.size() != 3 || tree_.part(root, 0).text != "FORMAT_WITH_STRING_TABLE") return false;
    strings_ = &tree_.part(root, 1);
    if (strings_->kind != Kind::kTuple) return false;
    for (const uint32_t text : strings_->parts) {
      if (tree_[text].kind != Kind::kString) return false;
    }
    return records_fit(tree_.part(root, 2));
  }

 private:
  static bool is_number(const PickleNode& node) { return node.kind == Kind::kInt && node.number >= 0; }
  static bool is_tuple(const PickleNode& node, size_t least, size_t most) {
    return node.kind == Kind::kTuple && node.parts.size() >= least && node.parts.size() <= most;
  }

  bool records_fit(const PickleNode& records) const {
    if (records.kind != Kind::kTuple) return false;
    for (const uint32_t record : records.parts) {
      if (!record_fits(tree_[record])) return false;
    }
    return true;
  }

  /// (offset in the code, range, its number); older files lack the number.
  bool record_fits(const PickleNode& record) const {
    if (!is_tuple(record, 2, 3) || !is_number(tree_.part(record, 0))) return false;
    const PickleNode& range = tree_.part(record, 1);
    if (!is_tuple(range, 3, 3)) return false;
    const PickleNode& begin = tree_.part(range, 1);
    const PickleNode& end = tree_.part(range, 2);
    int64_t length = 0;
    // LibTorch gives a place without text the range 0 to 1.
    return source_fits(tree_.part(range, 0), length) && is_number(begin) && is_number(end) &&
           begin.number <= end.number && end.number <= length + 1;
  }

  bool source_fits(const PickleNode& source, int64_t& length) const {
    if (!is_tuple(source, 3, 3)) return false;
    const PickleNode& text = tree_.part(source, 0);
    const PickleNode& file = tree_.part(source, 1);
    const PickleNode& line = tree_.part(source, 2);
    if (strings_) return table_text_fits(text, length) && has_string(file) && line.kind == Kind::kInt;
    length = static_cast<int64_t>(text.text.size());
    return text.kind == Kind::kString && (file.kind == Kind::kString || file.kind == Kind::kNone) &&
           (line.kind == Kind::kInt || line.kind == Kind::kNone);
  }

  bool has_string(const PickleNode& number) const {
    return is_number(number) && static_cast<size_t>(number.number) < strings_->parts.size();
  }

  bool table_text_fits(const PickleNode& numbers, int64_t& length) const {
    if (numbers.kind != Kind::kList) return false;
    for (const uint32_t number : numbers.parts) {
      if (!has_string(tree_[number])) return false;
      length += static_cast<int64_t>(tree_.part(*strings_, static_cast<size_t>(tree_[number].number)).text.size());
    }
    return true;
  }

  const PickleTree& tree_;
  const PickleNode* strings_ = nullptr;
};

}  // namespace

bool debug_records_fit(const PickleTree& tree) { return DebugRecords(tree).fit(); }

}  // namespace tsquant
