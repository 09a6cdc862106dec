#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tsquant {

/// Bytes of a file as memory. A page is read when it is first used; what is written stays in memory and is seen by
/// nobody else. @param offset,size must lie inside the file @throws std::system_error
at::DataPtr map_file(int descriptor, uint64_t offset, uint64_t size);

/// Whether the values of a tensor lie in a file that `map_file` mapped.
bool is_mapped(const at::Tensor& tensor);

/// Takes the pages of a mapped tensor out of memory; a later use reads them again. Does nothing for other
/// tensors and those that an operator has written into in place. Values that were written through a pointer are lost.
void give_pages_back(const at::Tensor& tensor);

}  // namespace tsquant
