#pragma once

#include <cstdint>

namespace tsquant {

/// The levels of a format that follows no rule, ascending, and their codes.
struct LevelTable {
  const float* levels;
  const uint8_t* codes;  ///< null: 0, 1, 2, ...
  int count;
};

/// NormalFloat: quantiles of the normal distribution with 0 and +-1 among them (Dettmers et al., "QLoRA", 2023).
inline constexpr float kNf4Levels[] = {-1.0F,
                                       -0.6961928009986877F,
                                       -0.5250730514526367F,
                                       -0.39491748809814453F,
                                       -0.28444138169288635F,
                                       -0.18477343022823334F,
                                       -0.09105003625154495F,
                                       0.0F,
                                       0.07958029955625534F,
                                       0.16093020141124725F,
                                       0.24611230194568634F,
                                       0.33791524171829224F,
                                       0.44070982933044434F,
                                       0.5626170039176941F,
                                       0.7229568362236023F,
                                       1.0F};
inline constexpr LevelTable kNf4Table{kNf4Levels, nullptr, 16};

/// nncf CompressWeightsMode.CB4.
inline constexpr float kCb4Levels[] = {-3.5F,    -2.5F,   -1.875F, -1.375F, -1.0F, -0.625F, -0.3125F, 0.0F,
                                       0.28125F, 0.5625F, 0.875F,  1.125F,  1.5F,  2.0F,    2.5F,     3.5F};
inline constexpr LevelTable kCb4Table{kCb4Levels, nullptr, 16};

/// Neural Compressor's FP4_BNB: the order of the codes is that of bitsandbytes, whose smallest level is 0.0052 of the
/// largest.
inline constexpr float kFp4BnbLevels[] = {-12.0F,  -8.0F, -6.0F, -4.0F, -3.0F, -2.0F, -0.0625F, 0.0F,
                                          0.0625F, 2.0F,  3.0F,  4.0F,  6.0F,  8.0F,  12.0F};
inline constexpr uint8_t kFp4BnbCodes[] = {11, 10, 13, 12, 15, 14, 9, 0, 1, 6, 7, 4, 5, 2, 3};
inline constexpr LevelTable kFp4BnbTable{kFp4BnbLevels, kFp4BnbCodes, 15};

/// Neural Compressor's FP4_E2M1: the numbers of E2M1, but 0.0625 in place of 0.5, which E2M1 has.
inline constexpr float kFp4E2M1Levels[] = {-6.0F,   -4.0F, -3.0F, -2.0F, -1.5F, -1.0F, -0.0625F, 0.0F,
                                           0.0625F, 1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F};
inline constexpr uint8_t kFp4E2M1Codes[] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7};
inline constexpr LevelTable kFp4E2M1Table{kFp4E2M1Levels, kFp4E2M1Codes, 15};

}  // namespace tsquant
