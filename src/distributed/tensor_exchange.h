#pragma once

#include <memory>

#include "distributed/byte_gather.h"
#include "tsquant/distributed.h"

namespace tsquant {

/// Makes an exchange of tensors from an exchange of bytes: lists of tensors travel in LibTorch's pickle format,
/// failures of the transport become Error kCalibration.
std::shared_ptr<StatisticsExchange> make_tensor_exchange(const Meeting& meeting, std::unique_ptr<ByteGather> gather);

/// @throws Error kInvalidArgument for a rank outside [0, size), a timeout that is not positive or an empty path
Meeting checked_meeting(const std::string& store_path, int64_t rank, int64_t size, double timeout_seconds);

}  // namespace tsquant
