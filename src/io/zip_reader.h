#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace tsquant {

/// Reads the members of a zip file (stored or deflated), as numpy writes them. PyTorchStreamReader only accepts
/// archives with PyTorch's own layout.
class ZipReader {
 public:
  struct Member {
    std::string name;
    uint64_t compressed = 0, size = 0, offset = 0;
    uint16_t method = 0;
  };

  /// @throws Error kDataset
  explicit ZipReader(const std::string& path);
  const std::vector<Member>& members() const { return members_; }
  std::vector<char> read(const Member& member);
  /// Where the bytes of a member begin in the file.
  uint64_t data_offset(const Member& member);

 private:
  std::vector<char> bytes_at(uint64_t offset, uint64_t size);
  void read_directory();
  [[noreturn]] void fail(const std::string& message) const;

  std::string path_;
  std::ifstream file_;
  uint64_t file_size_ = 0;
  std::vector<Member> members_;
};

}  // namespace tsquant
