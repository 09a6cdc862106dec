#include "fuzz/mutate.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "fuzz/zip_records.h"

namespace tsquant::fuzz {

namespace {

size_t below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

/// Stretches with which other numbers, opcodes and nesting come about.
std::string tokens(Random& random) {
  static const std::string kTokens[] = {std::string("\0\0\0\0", 4),
                                        "\xff\xff\xff\xff",
                                        "\x80\x02",
                                        "R",
                                        "(",
                                        ")",
                                        "q\x01",
                                        "h\x01",
                                        "N",
                                        "\x81",
                                        "b",
                                        "K\x7f",
                                        "J\xff\xff\xff\x7f",
                                        "-1",
                                        "1e999",
                                        "NaN",
                                        "null",
                                        "[[[[[[[[",
                                        "{\"",
                                        "]",
                                        "\"",
                                        "torch",
                                        "int8",
                                        "."};
  return kTokens[below(random, std::size(kTokens))];
}

std::string damaged(std::string bytes, Random& random) {
  for (size_t left = 1 + below(random, 3); left > 0; --left) {
    const size_t at = below(random, bytes.size());
    const size_t length = std::min(bytes.size() - at, 1 + below(random, 16));
    switch (random() % 8) {
      case 0:
        bytes.resize(at);
        break;
      case 1:
        bytes.erase(at, length);
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 3:
        bytes.insert(at, tokens(random));
        break;
      case 4:
        std::fill_n(bytes.begin() + static_cast<int64_t>(at), length, static_cast<char>(random() % 2 ? 0 : 0xff));
        break;
      case 5:
        bytes.replace(at, std::min(bytes.size() - at, size_t{4}), tokens(random));
        break;
      default:
        if (!bytes.empty()) bytes[at] = static_cast<char>(random());
    }
  }
  return bytes;
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string mutate(const std::string& path, Random& random) {
  Records records = random() % 4 == 0 ? Records() : read_zip(path);
  if (records.empty()) return damaged(read_file(path), random);
  auto& [name, content] = records[below(random, records.size())];
  switch (random() % 16) {
    case 0:
      name = damaged(name, random);
      break;
    case 1:
      records.erase(records.begin() + static_cast<int64_t>(below(random, records.size())));
      break;
    case 2:
      records.push_back(records[below(random, records.size())]);
      break;
    case 3:
      content = records[below(random, records.size())].second;
      break;
    default:
      content = damaged(content, random);
  }
  return write_zip(records);
}

}  // namespace tsquant::fuzz
