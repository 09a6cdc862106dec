#pragma once

#include <string>

namespace tsquant {

/// Rewrites a pickle stream of Python so that LibTorch 1.13's Unpickler can read it:
/// - containers with one entry, which Python writes with APPEND and SETITEM, opcodes that the Unpickler lacks;
/// - an OrderedDict with entries, which it takes for the empty one in a saved tensor and drops;
/// - integers of 5 to 7 bytes, of which it takes 8 only.
/// ```
/// ] x a                            ->   ] ( x e
/// } k v s                          ->   } ( k v u
/// collections.OrderedDict ) R      ->   torch.jit._pickle.restore_type_tag } 'Dict[Any, Any]' TUPLE2 R
/// ```
/// Opcodes: Python's Lib/pickletools.py, as far as torch.save (protocol 2) writes them. A stream with others, or one
/// that is cut off, is returned as it is.
std::string readable_pickle(const std::string& pickle);

}  // namespace tsquant
