#include "quantizers/openvino/propagation_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

namespace tsquant::openvino {
namespace {

TEST(TravelQueueTest, takes_turns_in_order) {
  PropagationQueue queue;
  for (int id : {1, 2, 3}) queue.append(id);
  std::vector<int> turns;
  for (int i = 0; i < 7; ++i) {
    turns.push_back(queue.next());
    queue.keep(turns.back());
  }
  EXPECT_EQ(turns, (std::vector<int>{1, 2, 3, 1, 2, 3, 1}));
}

TEST(TravelQueueTest, newcomers_come_last) {
  PropagationQueue queue;
  for (int id : {1, 2}) queue.append(id);
  EXPECT_EQ(queue.next(), 1);
  queue.remove(1);
  queue.insert_behind_cursor(3);
  queue.insert_behind_cursor(4);
  std::vector<int> turns;
  for (int i = 0; i < 4; ++i) {
    turns.push_back(queue.next());
    queue.keep(turns.back());
  }
  EXPECT_EQ(turns, (std::vector<int>{2, 3, 4, 2}));
}

TEST(TravelQueueTest, is_done_when_all_are_parked_or_gone) {
  PropagationQueue queue;
  queue.append(1);
  EXPECT_EQ(queue.next(), 1);
  queue.park(1);
  EXPECT_EQ(queue.next(), 0);
  EXPECT_FALSE(queue.empty());
  queue.unpark(1);
  EXPECT_EQ(queue.next(), 1);
  queue.remove(1);
  EXPECT_TRUE(queue.empty());
}

/// The same random history on a plain queue in which parked ones take idle turns.
TEST(TravelQueueTest, equals_a_plain_queue_with_idle_turns) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 50; ++trial) {
    PropagationQueue queue;
    std::deque<int> plain;
    std::set<int> parked;
    int next_id = 1;
    for (; next_id <= 6; ++next_id) {
      queue.append(next_id);
      plain.push_back(next_id);
    }
    for (int step = 0; step < 400 && parked.size() < plain.size(); ++step) {
      while (parked.count(plain.front())) {
        plain.push_back(plain.front());
        plain.pop_front();
      }
      const int id = plain.front();
      plain.pop_front();
      ASSERT_EQ(queue.next(), id) << "trial " << trial << " step " << step;
      const auto action = random() % 8;
      if (action == 0 && plain.size() > 2) {
        queue.remove(id);
      } else if (action <= 2) {
        queue.park(id);
        parked.insert(id);
        plain.push_back(id);
      } else {
        queue.keep(id);
        plain.push_back(id);
      }
      for (auto count = random() % 8 == 0 ? 2 : 0; count > 0; --count) {
        queue.insert_behind_cursor(next_id);
        plain.push_back(next_id++);
      }
      if (!parked.empty() && random() % 3 == 0) {
        const int waked = *std::next(parked.begin(), static_cast<int64_t>(random() % parked.size()));
        queue.unpark(waked);
        parked.erase(waked);
      }
    }
  }
}

TEST(TravelQueueTest, survives_many_insertions_at_one_place) {
  PropagationQueue queue;
  queue.append(1);
  queue.append(2);
  EXPECT_EQ(queue.next(), 1);
  queue.keep(1);
  for (int id = 3; id < 300; ++id) queue.insert_behind_cursor(id);
  std::vector<int> turns;
  for (int i = 0; i < 299; ++i) turns.push_back(queue.next());
  EXPECT_EQ(turns.front(), 2);
  EXPECT_EQ(turns[1], 1);
  EXPECT_TRUE(std::is_sorted(turns.begin() + 1, turns.end()));
}

}  // namespace
}  // namespace tsquant::openvino
