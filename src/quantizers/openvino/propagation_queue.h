#pragma once

#include <c10/util/SmallVector.h>

#include <cstdint>
#include <vector>

namespace tsquant::openvino {

/// The order in which quantizers take their steps: a ring with a cursor. A quantizer that remains after its step keeps
/// its place; new ones enter right behind the cursor, so that they come last. This is a first-in first-out queue from
/// which parked quantizers, which only wait for others, are skipped without losing their place.
class PropagationQueue {
 public:
  PropagationQueue() : places_(1) {}
  /// Adds at the end of the ring, before the first call of `next`.
  void append(int id);
  /// The quantizer that took its step will take another one in the next round.
  void keep(int id);
  /// Adds behind the quantizer that takes its step now, and behind those inserted since.
  void insert_behind_cursor(int id);
  void remove(int id);
  /// Takes a quantizer out of the rounds; its place in the ring remains.
  void park(int id);
  void unpark(int id);
  /// Moves the cursor to the next quantizer that is not parked. @return its id, 0 when there is none
  int next();
  /// No quantizer is left, parked ones included.
  bool empty() const { return places_[0].after == 0; }
  std::vector<int> ids() const;
  /// Sorts by the time at which the ring would reach them, starting with the one at the cursor.
  void sort_from_cursor(c10::SmallVectorImpl<int>& ids) const;

 private:
  /// Place 0 is the start of the ring; labels ascend along it.
  struct Place {
    int before = 0, after = 0;
    int64_t label = 0;
    uint32_t ticket = 0;  ///< entries with another ticket are void
    bool present = false, parked = false;
  };
  struct Entry {
    int id;
    uint32_t ticket;
  };
  static constexpr int64_t kSpacing = int64_t{1} << 32;

  void link(int id, int before, int64_t label);
  Entry renew(int id);
  bool is_valid(const Entry& entry) const;
  void push_heap(std::vector<Entry>& heap, int id);
  void drop_void();
  void relabel();

  std::vector<Place> places_;                       ///< by id
  std::vector<Entry> round_, later_;                ///< this round in order, from head_ on; the next round in order
  std::vector<Entry> joined_round_, joined_later_;  ///< heaps of those unparked meanwhile
  size_t head_ = 0;
  int anchor_ = 0;      ///< last place at or before the cursor
  int64_t cursor_ = 0;  ///< label of the quantizer that takes its step
};

}  // namespace tsquant::openvino
