#include "numerics/level_tables.h"

#include <fmt/format.h>

#include "tsquant/error.h"
#include "tsquant/weight_only.h"

namespace tsquant {

namespace {

std::vector<double> levels_of(const LevelTable& table) { return {table.levels, table.levels + table.count}; }

/// Patterns of 4 bits as two's complement.
std::vector<int64_t> signed_codes_of(const LevelTable& table) {
  std::vector<int64_t> codes;
  for (int i = 0; i < table.count; ++i) codes.push_back(table.codes[i] < 8 ? table.codes[i] : table.codes[i] - 16);
  return codes;
}

template <typename Table>
const Table& table_of(const std::map<std::string, Table>& tables, const std::string& dtype) {
  const auto found = tables.find(dtype);
  if (found == tables.end()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there are no 4-bit levels named \"{}\"", dtype), "dtype",
                "choose nf4, fp4, fp4_e2m1_bnb or fp4_e2m1");
  }
  return found->second;
}

}  // namespace

const std::vector<double> kNf4 = levels_of(kNf4Table);
const std::vector<double> kFp4Bnb = levels_of(kFp4BnbTable);
const std::vector<double> kFp4E2m1 = levels_of(kFp4E2M1Table);

// Neural Compressor numbers NF4 so that 0 is the code of 0; packed weights elsewhere hold the position in the table.
const std::vector<int64_t> kNf4Bit = {7, 1, 2, 3, 4, 5, 6, 0, -8, -7, -6, -5, -4, -3, -2, -1};
const std::vector<int64_t> kFp4BnbBit = signed_codes_of(kFp4BnbTable);
const std::vector<int64_t> kFp4E2m1Bit = signed_codes_of(kFp4E2M1Table);

const std::map<std::string, std::vector<double>>& float_mapping() {
  static const std::map<std::string, std::vector<double>> tables = {
      {"nf4", kNf4}, {"fp4", kFp4Bnb}, {"fp4_e2m1_bnb", kFp4Bnb}, {"fp4_e2m1", kFp4E2m1}};
  return tables;
}

const std::map<std::string, std::vector<int64_t>>& int_mapping() {
  static const std::map<std::string, std::vector<int64_t>> tables = {
      {"nf4", kNf4Bit}, {"fp4", kFp4BnbBit}, {"fp4_e2m1_bnb", kFp4BnbBit}, {"fp4_e2m1", kFp4E2m1Bit}};
  return tables;
}

const std::vector<double>& float_mapping(const std::string& dtype) { return table_of(float_mapping(), dtype); }
const std::vector<int64_t>& int_mapping(const std::string& dtype) { return table_of(int_mapping(), dtype); }

}  // namespace tsquant
