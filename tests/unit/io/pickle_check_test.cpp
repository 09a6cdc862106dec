#include "io/pickle_check.h"

#include <gtest/gtest.h>

#include "io/debug_records.h"

namespace tsquant {
namespace {

using namespace std::string_literals;

const std::string kProtocol = "\x80\x02";

std::string text(const std::string& value) {
  const auto size = static_cast<char>(value.size());
  return "X"s + size + "\0\0\0"s + value;
}

/// Why a stream is refused; "" when it is not.
std::string fault_of(const std::string& body, const PickleRules& rules = {}) {
  const std::string pickle = kProtocol + body;
  try {
    check_pickle(pickle, rules);
  } catch (const PickleDamage& damage) {
    return damage.what();
  }
  return "";
}

PickleRules model_rules() {
  PickleRules rules;
  rules.classes = true;
  rules.storage_bytes = [](const std::string& key) {
    return key == "0" ? c10::make_optional<uint64_t>(24) : c10::nullopt;
  };
  return rules;
}

/// A storage of floats.
std::string storage(const std::string& key, char elements) {
  return "("s + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cpu") + "K" + elements + "tQ";
}

/// A tensor of two dimensions over record "0" with `elements` floats.
std::string tensor(char elements, char offset, const std::string& sizes, const std::string& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage("0", elements) + "K" + offset + "(" + sizes + "t(" + strides +
         "t\x89" + "ccollections\nOrderedDict\n)RtR";
}

TEST(PickleCheck, EveryTwoInstructionsAreJudgedWithoutReadingBeyondTheStack) {
  const std::string known = "()]}NK\x01RbQ\x81\x85\x86\x87tuesadlq\x01h\x01.\x88\x89";
  for (const char first : known) {
    for (const char second : known) fault_of(std::string{first, second, '.'});
  }
  for (const std::string body :
       {"R", "b", "Q", "\x81", "\x85", "\x86", "NN\x87", "(R", "(\x81", "e", "u", "t", "q\x01"}) {
    EXPECT_NE(fault_of(body + "."), "") << body;
  }
}

TEST(PickleCheck, EachFaultIsNamedWithItsByte) {
  EXPECT_EQ(fault_of("R."), "it takes a value from an empty stack, at byte 2");
  EXPECT_EQ(fault_of("N(R."), "it takes a value from an empty stack, at byte 4") << "below the mark";
  EXPECT_EQ(fault_of("]t."), "it lacks a mark, at byte 3");
  EXPECT_EQ(fault_of("](N"), "it ends too early, at byte 4");
  EXPECT_EQ(fault_of("NN."), "it ends with other than one value, at byte 4");
  EXPECT_EQ(fault_of("."), "it ends with other than one value, at byte 2");
  EXPECT_EQ(fault_of("h\x05."), "the memo holds nothing under a number, at byte 2");
  EXPECT_EQ(fault_of("Nr\xff\xff\xff\xff."), "a number of the memo is too large, at byte 3");
  EXPECT_EQ(fault_of("K\x00N\x85R."s), "something else than a function is called, at byte 6");
  EXPECT_EQ(fault_of("N(Ne."), "it appends to something else than a list, at byte 5");
  EXPECT_EQ(fault_of("](NNu."), "it sets entries of something else than a dict, at byte 6");
  EXPECT_EQ(fault_of("}(Nu."), "a key lacks its value, at byte 5");
  EXPECT_EQ(fault_of("}(]Nu."), "a key cannot be looked up, at byte 6");
  EXPECT_EQ(fault_of("\x95."), "it has an unknown instruction, at byte 2");
  EXPECT_EQ(fault_of("X\xff\xff\xff\xff."), "it ends too early, at byte 2") << "a text longer than the stream";
  EXPECT_EQ(fault_of("cos\nsystem\n)R."), "it needs os.system, which only Python has, at byte 2");
  for (const std::string& whole : {""s, "N"s, "\x80"s, "\x80\x03N."s, "N."s}) {
    EXPECT_THROW(check_pickle(whole, {}), PickleDamage) << whole.size();
  }
}

TEST(PickleCheck, WhatIsAllowedDependsOnWhoWroteIt) {
  PickleRules python;
  python.python = true;
  EXPECT_EQ(fault_of("]Na.", python), "");
  EXPECT_NE(fault_of("]Na."), "");
  EXPECT_EQ(fault_of("}K\x01Ns.", python), "");
  EXPECT_EQ(fault_of("\x8a\x01\xff.", python), "");
  EXPECT_NE(fault_of("\x8a\x01\xff."), "");
  const auto object = "c__torch__\nNet\n)\x81}b."s;
  EXPECT_EQ(fault_of(object, model_rules()), "");
  EXPECT_NE(fault_of(object), "");
  EXPECT_NE(fault_of("c__torch__.List[List[\nNet\n)\x81}b."s, model_rules()), "");
}

TEST(PickleCheck, TensorsMustLieInTheirStorageAndStoragesInTheirRecord) {
  const auto fault = [](const std::string& body) { return fault_of(body + ".", model_rules()); };
  const auto kSizes = "K\x02K\x03"s, kStrides = "K\x03K\x01"s;
  EXPECT_EQ(fault(tensor(6, 0, kSizes, kStrides)), "");
  EXPECT_EQ(fault(tensor(6, 0, "K\x00K\x03"s, kStrides)), "");
  EXPECT_NE(fault(tensor(7, 0, kSizes, kStrides)).find("record of tensor data 0 is too short"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 1, kSizes, kStrides)).find("reaches beyond its storage"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, kSizes, "K\x04K\x01")).find("reaches beyond its storage"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, "J\xfe\xff\xff\xffK\x03", kStrides)).find("negative size"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, kSizes, "J\xfe\xff\xff\xffK\x03")).find("negative stride"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, kSizes, "K\x01")).find("one stride per size"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, "NK\x03", kStrides)).find("something else than integers"), std::string::npos);
  const auto huge = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s;
  EXPECT_NE(fault(tensor(6, 0, huge + huge, kStrides)).find("too large"), std::string::npos);
  EXPECT_NE(fault(tensor(6, 0, kSizes, huge + huge)).find("reaches beyond"), std::string::npos);
  EXPECT_NE(fault(storage("9", 1)).find("record of tensor data 9 is missing"), std::string::npos);
  EXPECT_EQ(fault(storage("9", 0)), "") << "nothing is read for an empty tensor";
  EXPECT_NE(fault("(" + text("storage") + "K\xc8" + text("0") + text("cpu") + "K\x01tQ"), "") << "a number as type";
}

TEST(PickleCheck, TypesAndContainersAreLimitedInDepth) {
  const auto tag = [](const std::string& type) {
    return "ctorch.jit._pickle\nrestore_type_tag\n]" + text(type) + "\x86R.";
  };
  EXPECT_EQ(fault_of(tag("List[List[int]]")), "");
  EXPECT_NE(fault_of(tag(std::string(100, '['))), "");
  EXPECT_NE(fault_of(tag("Dict[str, int]")), "") << "a list";
  EXPECT_EQ(fault_of(")" + std::string(1000, '\x85') + "."), "");
  EXPECT_NE(fault_of(")" + std::string(50000, '\x85') + ".").find("levels deep"), std::string::npos);
}

TEST(PickleCheck, ContainersThatHoldThemselvesOrMultiply) {
  EXPECT_NE(fault_of("]q\x01(h\x01" + "e."s).find("holds itself"), std::string::npos);
  EXPECT_NE(fault_of("}q\x01(K\x01h\x01u."s).find("holds itself"), std::string::npos);
  std::string doubled = ")";
  for (char i = 0; i < 60; ++i) doubled += "q"s + i + "h" + i + "\x86";
  EXPECT_EQ(fault_of(doubled + "."), "") << "shared objects are kept once";
  PickleRules limited;
  limited.most_values = 1000;
  EXPECT_NE(fault_of(doubled + ".", limited).find("more than 1000 values"), std::string::npos);
}

TEST(PickleCheck, DebugRecordsHaveTheirForm) {
  const auto fit = [](const std::string& body) {
    const std::string pickle = kProtocol + body + ".";
    return debug_records_fit(check_pickle(pickle, {}));
  };
  const auto table = [](const std::string& record) {
    return text("FORMAT_WITH_STRING_TABLE") + "(" + text("abc") + text("file") + "t(" + record + "t\x87";
  };
  const auto source = "](K\x00"s + "eK\x01K\x07\x87";
  EXPECT_TRUE(fit(table("K\x05" + source + "K\x01K\x03\x87" + "K\x00\x87"s)));
  EXPECT_FALSE(fit(table("K\x05" + source + "K\x01K\x09\x87" + "K\x00\x87"s))) << "beyond the text";
  EXPECT_FALSE(fit(table("K\x05" + "](K\x09"s + "eK\x01K\x07\x87K\x00K\x00\x87K\x00\x87"s))) << "no such string";
  EXPECT_FALSE(fit(table("K\x05" + source + "K\x00\x86\x85"s)));
  EXPECT_TRUE(fit("(K\x00"s + text("abc") + "NK\x01\x87K\x00K\x03\x87\x86t"s));
  EXPECT_FALSE(fit("(K\x00\x85t"s));
  EXPECT_FALSE(fit("N"));
  EXPECT_FALSE(fit(")")) << "nothing, where LibTorch takes the first part";
}

}  // namespace
}  // namespace tsquant
