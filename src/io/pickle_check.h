#pragma once

#include <c10/util/Optional.h>

#include <functional>
#include <stdexcept>
#include <string>

#include "io/pickle_tree.h"

namespace tsquant {

/// A stream that LibTorch's Unpickler must not see. `what()` says why and at which byte.
struct PickleDamage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Where a stream comes from.
struct PickleRules {
  /// Bytes of the record behind the key of a storage; none when there is no such record.
  std::function<c10::optional<uint64_t>(const std::string& key)> storage_bytes = [](const std::string&) {
    return c10::optional<uint64_t>();
  };
  /// Objects and enums of TorchScript classes may stand in it.
  bool classes = false;
  /// Sparse tensors may stand in it; whether their indices lie inside only the loaded tensors show.
  bool sparse = true;
  /// Written by Python and read after `readable_pickle`: APPEND, SETITEM, short integers, filled OrderedDicts.
  bool python = false;
  /// Values that it may be when each is counted wherever it stands.
  uint64_t most_values = UINT64_MAX;
};

/// Follows a stream as LibTorch 1.13's Unpickler would and refuses what the Unpickler does not look at: elements taken
/// from an empty stack or from below a mark, missing marks, operands of the wrong kind, numbers of the memo that hold
/// nothing, functions called with something else than their arguments, tensors that reach beyond their storage and
/// storages beyond their record, text types and containers that are nested too deeply.
/// @param pickle must outlive the result
/// @throws PickleDamage
PickleTree check_pickle(const std::string& pickle, const PickleRules& rules);

}  // namespace tsquant
