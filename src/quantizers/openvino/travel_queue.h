#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace tsquant::openvino {

/// The order in which quantizers take their steps: a ring with a cursor. A quantizer that remains after its step keeps
/// its place; new ones enter right behind the cursor, so that they come last. This is a first-in first-out queue from
/// which parked quantizers, which only wait for others, are skipped without losing their place.
class TravelQueue {
 public:
  /// Adds at the end of the ring.
  void append(int id);
  /// Adds behind the quantizer that takes its step now, and behind those inserted since.
  void insert_behind_cursor(int id);
  void remove(int id);
  void park(int id);
  void unpark(int id);
  /// Moves the cursor to the next quantizer that is not parked. @return its id, 0 when there is none
  int next();
  /// Quantizers in the ring, parked ones included.
  bool empty() const { return all_.empty(); }
  std::vector<int> ids() const;
  /// Sorts by the time at which the ring would reach them, starting with the one at the cursor.
  void sort_from_cursor(std::vector<int>& ids) const;

 private:
  static constexpr int64_t kSpacing = int64_t{1} << 32;
  void place(int id, int64_t label);
  void relabel();

  std::map<int64_t, int> all_, active_;  ///< by label
  std::vector<int64_t> label_;           ///< by id; 0: not in the ring
  int64_t turn_ = 0;                     ///< label of the quantizer that takes its step
  int64_t cursor_ = 0;                   ///< label after which the ring continues
};

}  // namespace tsquant::openvino
