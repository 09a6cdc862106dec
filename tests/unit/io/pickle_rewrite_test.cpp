#include "io/pickle_rewrite.h"

#include <gtest/gtest.h>

#include "io/named_tensors.h"
#include "support/support.h"

namespace tsquant::pickle_rewrite_test {
namespace {

using namespace std::string_literals;
using testing::data_file;

at::Tensor images() { return at::arange(48, c10::kByte).view({4, 3, 2, 2}); }

TEST(PickleRewrite, SingleEntriesGetAMark) {
  // [5] and {"x": None}; the memo opcode stays between the container and its first entry.
  EXPECT_EQ(readable_pickle("\x80\x02]q\x00K\x05"s + "a."), "\x80\x02]q\x00(K\x05"s + "e.");
  EXPECT_EQ(readable_pickle("}X\x01\x00\x00\x00xNs."s), "}(X\x01\x00\x00\x00xNu."s);
}

TEST(PickleRewrite, NestedEntriesBeginWhereTheirFirstByteStands) {
  EXPECT_EQ(readable_pickle("]}K\x01]Nasa."s), "](}(K\x01](Neue."s);
  // An entry that is a tuple begins at the tuple's mark, one that is an object at its class.
  EXPECT_EQ(readable_pickle("](NNta."s), "]((NNte."s);
  EXPECT_EQ(readable_pickle("]ca\nb\n)Ra."s), "](ca\nb\n)Re."s);
  EXPECT_EQ(readable_pickle("]NN\x86"s + "a."), "](NN\x86"s + "e.");
}

TEST(PickleRewrite, OrderedDictsWithEntriesBecomeDicts) {
  const auto dict = "ctorch.jit._pickle\nrestore_type_tag\nq\x01}X\x0e\x00\x00\x00"s + "Dict[Any, Any]\x86Rq\x02";
  EXPECT_EQ(readable_pickle("ccollections\nOrderedDict\nq\x01)Rq\x02NNs."s), dict + "(NNu.");
  // The class by its number; an empty one beside it, as in every saved tensor, becomes the same.
  EXPECT_EQ(readable_pickle("]ccollections\nOrderedDict\nq\x01)Rq\x02(NNNNuah\x01)R\x86."s),
            "](" + dict + "(NNNNueh\x01}X\x0e\x00\x00\x00"s + "Dict[Any, Any]\x86R\x86.");
  const auto empty = "ccollections\nOrderedDict\n)R."s;
  EXPECT_EQ(readable_pickle(empty), empty);
}

TEST(PickleRewrite, ShortIntegersAreWidened) {
  EXPECT_EQ(readable_pickle("\x8a\x05\x01\x02\x03\x04\x85."s), "\x8a\x08\x01\x02\x03\x04\x85\xff\xff\xff."s);
  EXPECT_EQ(readable_pickle("\x8a\x05\x01\x02\x03\x04\x05."s), "\x8a\x08\x01\x02\x03\x04\x05\x00\x00\x00."s);
  const auto full = "\x8a\x08\x01\x02\x03\x04\x05\x06\x07\x08."s;
  EXPECT_EQ(readable_pickle(full), full);
}

TEST(PickleRewrite, OtherStreamsStayAsTheyAre) {
  const std::vector<std::string> streams = {
      "](NNe."s,                 // nothing to do
      "}(NNNNu."s,               // the same
      "]Na"s,                    // no STOP
      "]X\xff\xff\xff\xffxa."s,  // a string longer than the stream
      "a."s,                     // nothing on the stack
      "t."s,                     // no mark
      "](Na."s,                  // the list is below the mark, out of reach
      "]N\x95"s + "a.",          // an opcode of a later protocol
  };
  for (const auto& stream : streams) EXPECT_EQ(readable_pickle(stream), stream);
}

struct SavedCase {
  std::string file;
  std::vector<std::string> names;
};

class SavedByPython : public ::testing::TestWithParam<SavedCase> {};

TEST_P(SavedByPython, HoldsTheImages) {
  const auto tensors = read_torch_file(data_file("io/single/" + GetParam().file + ".pt"));
  ASSERT_EQ(tensors.size(), GetParam().names.size()) << describe(tensors);
  for (size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(tensors[i].name, GetParam().names[i]);
  EXPECT_TRUE(at::equal(tensors.front().tensor, images()));
}

INSTANTIATE_TEST_SUITE_P(
    OneEntry, SavedByPython,
    ::testing::Values(SavedCase{"dict", {"images"}}, SavedCase{"list", {"tensor"}}, SavedCase{"tuple", {"0"}},
                      SavedCase{"nested", {"outer"}}, SavedCase{"list_of_dicts", {"images"}},
                      SavedCase{"list_of_one_dict", {"images"}}, SavedCase{"dict_of_dict", {"outer.inner.images"}},
                      SavedCase{"tuple_of_lists", {"0", "1"}}, SavedCase{"ordered", {"images"}},
                      SavedCase{"shared", {"pair.0", "pair.1"}}, SavedCase{"int_key", {"7"}},
                      SavedCase{"ordered_two", {"a", "b"}}, SavedCase{"ordered_nested", {"x.images"}}),
    [](const auto& info) { return info.param.file; });

TEST(PickleRewrite, EveryDtypeComesThrough) {
  const auto only = [](const std::string& name) {
    return read_torch_file(data_file("io/single/" + name + ".pt")).at(0).tensor;
  };
  EXPECT_TRUE(at::equal(only("bool"), at::tensor({1, 0}).to(c10::kBool)));
  EXPECT_TRUE(at::equal(only("int"), at::tensor({3, 4}, c10::kLong)));
  EXPECT_TRUE(at::equal(only("float"), at::tensor({0.5f, -2.f})));
  EXPECT_TRUE(at::equal(only("numbers"), at::tensor({1.f, 2.f}))) << "lists of numbers beside it are passed over";
}

TEST(PickleRewrite, EveryTruncatedStreamIsReturnedWhole) {
  const auto stream = "\x80\x02}q\x00X\x01\x00\x00\x00xq\x01]q\x02(ca\nb\nK\x01M\x01\x01J\x01\x01\x01\x01tq\x03Qas."s;
  EXPECT_NE(readable_pickle(stream), stream);
  for (size_t size = 0; size < stream.size(); ++size) {
    const auto part = stream.substr(0, size);
    EXPECT_EQ(readable_pickle(part), part) << size;
  }
}

}  // namespace
}  // namespace tsquant::pickle_rewrite_test
