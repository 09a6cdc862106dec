#include <gtest/gtest.h>

#include "golden_graph.h"
#include "quantizers/id_table.h"
#include "quantizers/openvino/entry_lists.h"
#include "quantizers/openvino/inference_graph.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

using openvino::EntryLists;

std::vector<int> entries(const EntryLists& lists, int list) {
  std::vector<int> ids;
  lists.for_each(list, [&](int id) { ids.push_back(id); });
  return ids;
}

TEST(EntryListsTest, lists_grow_side_by_side) {
  EntryLists lists(1);
  lists.push_back(0, 7);
  lists.grow(3);
  lists.grow(2);  // never smaller
  lists.push_back(2, 5);
  lists.push_back(0, 8);
  EXPECT_EQ(entries(lists, 0), (std::vector<int>{7, 8}));
  EXPECT_EQ(entries(lists, 1), std::vector<int>());
  EXPECT_EQ(entries(lists, 2), std::vector<int>{5});
}

TEST(EntryListsTest, erasing_takes_one_entry_wherever_it_stands) {
  for (const int gone : {1, 2, 3}) {
    EntryLists lists(1);
    for (const int id : {1, 2, 3}) lists.push_back(0, id);
    lists.erase(0, gone);
    lists.erase(0, 9);  // not there
    std::vector<int> wanted = {1, 2, 3};
    wanted.erase(wanted.begin() + gone - 1);
    EXPECT_EQ(entries(lists, 0), wanted);
    lists.push_back(0, 4);
    wanted.push_back(4);
    EXPECT_EQ(entries(lists, 0), wanted) << "after " << gone;
  }
  EntryLists twice(1);
  for (const int id : {1, 2, 1}) twice.push_back(0, id);
  twice.erase(0, 1);
  EXPECT_EQ(entries(twice, 0), (std::vector<int>{2, 1}));
}

TEST(EntryListsTest, what_was_cleared_serves_other_lists) {
  EntryLists lists(2);
  for (const int id : {1, 2, 3}) lists.push_back(0, id);
  lists.push_back(1, 4);
  lists.clear(0);
  lists.clear(0);
  for (const int id : {5, 6, 7, 8}) lists.push_back(1, id);
  lists.push_back(0, 9);
  EXPECT_EQ(entries(lists, 0), std::vector<int>{9});
  EXPECT_EQ(entries(lists, 1), (std::vector<int>{4, 5, 6, 7, 8}));
}

TEST(EntryListsTest, a_list_may_be_copied_onto_another_while_it_is_read) {
  EntryLists lists(2);
  for (int id = 0; id < 100; ++id) lists.push_back(0, id);
  lists.for_each(0, [&](int id) { lists.push_back(1, id); });
  EXPECT_EQ(entries(lists, 1), entries(lists, 0));
}

TEST(IdTableTest, items_of_a_row_keep_their_order) {
  const std::vector<int> rows = {2, 0, -1, 2, 0, 3};
  const IdTable table(4, rows.size(), [&](int item) { return rows[item]; });
  EXPECT_EQ(table[0].vec(), (std::vector<int>{1, 4}));
  EXPECT_TRUE(table[1].empty());
  EXPECT_EQ(table[2].vec(), (std::vector<int>{0, 3}));
  EXPECT_EQ(table[3].vec(), std::vector<int>{5});
  EXPECT_EQ(table.items(), (std::vector<int>{1, 4, 0, 3, 5}));
}

TEST(IdTableTest, takes_given_items_and_sorts_rows) {
  IdTable table(2, std::vector<int>{14, 3, 22, 8, 5}, [](int item) { return item % 2; });
  EXPECT_EQ(table[0].vec(), (std::vector<int>{14, 22, 8}));
  table.sort_rows([](int a, int b) { return a / 10 < b / 10; });
  EXPECT_EQ(table[0].vec(), (std::vector<int>{8, 14, 22}));
  EXPECT_EQ(table[1].vec(), (std::vector<int>{3, 5})) << "equal keys keep their order";
}

/// What a node feeds after no-ops are gone: first what read it directly, then the readers of each no-op in turn.
TEST(InferenceGraphTest, readers_of_noops_come_last) {
  GraphMaker maker;
  const int source = maker.op("tanh", {maker.input()}, "source");
  const int dropped = maker.op("dropout", {source}, "first_dropout");
  const int again = maker.op("dropout", {dropped}, "second_dropout");
  const int early = maker.op("relu", {again}, "behind_both");
  const int middle = maker.op("relu", {dropped}, "behind_first");
  const int late = maker.op("relu", {source}, "direct");
  maker.output({early, middle, late});
  const auto graph = openvino::make_inference_graph(maker.graph);
  std::vector<int> readers;
  for (const int edge : graph.out_edges[source]) readers.push_back(graph.edges[edge].to);
  EXPECT_EQ(readers, (std::vector<int>{late, middle, early}));
  EXPECT_FALSE(graph.present[dropped]);
  EXPECT_TRUE(graph.out_edges[dropped].empty());
  EXPECT_TRUE(graph.in_edges[again].empty());
}

TEST(PlacementGraphTest, neighbours_follow_what_is_added) {
  openvino::PlacementGraph graph;
  const int metatype = openvino::metatype_index("PTRELUMetatype");
  const auto add = [&](const char* name) {
    return graph.add_node(openvino::PlacementKind::kOperator, graph.keep(std::string(name)), metatype);
  };
  const int a = add("a"), b = add("b");
  const int first = graph.add_edge(a, b, 0);
  EXPECT_EQ(graph.out_edges(a).vec(), std::vector<int>{first});
  const int c = add("c");
  EXPECT_TRUE(graph.in_edges(c).empty());
  const int second = graph.add_edge(a, c, 0);
  EXPECT_EQ(graph.out_edges(a).vec(), (std::vector<int>{first, second}));
  EXPECT_EQ(graph.in_edges(c).vec(), std::vector<int>{second});
  EXPECT_THROW(graph.add_edge(c, b, 0), Error);
}

}  // namespace
}  // namespace tsquant::testing
