#include "kernels/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "kernels/aligned_buffer.h"
#include "kernels/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tsquant::kernels {
namespace {

constexpr int kRuns = 5;

/// Seconds of the fastest of some runs.
double fastest(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

#if defined(__x86_64__)
constexpr int64_t kSteps = 20000;

// Twelve independent chains of multiply-adds in registers. The instructions are written out, or compilers would take
// what does not change out of the loop.
// NOLINTBEGIN(cppcoreguidelines-macro-usage)
#define TSQUANT_CHAINS(name, target_name, vector, zero, constraint, ...)                                          \
  __attribute__((target(target_name), noinline)) void name() {                                                    \
    vector sums[12], x = zero, w = zero, product = zero;                                                          \
    for (auto& sum : sums) sum = zero;                                                                            \
    for (int64_t step = 0; step < kSteps; ++step) {                                                               \
      _Pragma("GCC unroll 12") for (auto& sum : sums) {                                                           \
        asm volatile(__VA_ARGS__ : "+" constraint(sum), "=&" constraint(product) : constraint(x), constraint(w)); \
      }                                                                                                           \
    }                                                                                                             \
  }

TSQUANT_CHAINS(float_128, "sse4.1", __m128, _mm_setzero_ps(), "x", "movaps %2, %1\n\tmulps %3, %1\n\taddps %1, %0")
TSQUANT_CHAINS(float_256, "avx2,fma", __m256, _mm256_setzero_ps(), "x", "vfmadd231ps %2, %3, %0")
TSQUANT_CHAINS(float_512, "avx512f", __m512, _mm512_setzero_ps(), "v", "vfmadd231ps %2, %3, %0")
TSQUANT_CHAINS(pairs_128, "sse4.1", __m128i, _mm_setzero_si128(), "x",
               "movdqa %2, %1\n\tpmaddwd %3, %1\n\tpaddd %1, %0")
TSQUANT_CHAINS(pairs_256, "avx2", __m256i, _mm256_setzero_si256(), "x", "vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0")
TSQUANT_CHAINS(pairs_512, "avx512f,avx512bw", __m512i, _mm512_setzero_si512(), "v",
               "vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0")
TSQUANT_CHAINS(fours_256, "avxvnni,avx2", __m256i, _mm256_setzero_si256(), "x", "%{vex%} vpdpbusd %2, %3, %0")
TSQUANT_CHAINS(fours_512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), "v", "vpdpbusd %2, %3, %0")
#undef TSQUANT_CHAINS
// NOLINTEND(cppcoreguidelines-macro-usage)

struct Chains {
  Isa isa;
  bool codes;
  int64_t products;  ///< of one instruction, or of one with its addition
  void (*run)();
};

/// Worst first.
constexpr Chains kChains[] = {
    {Isa::kSse4, false, 4, float_128},    {Isa::kSse4, true, 8, pairs_128},        {Isa::kAvx2, false, 8, float_256},
    {Isa::kAvx2, true, 16, pairs_256},    {Isa::kAvx512, false, 16, float_512},    {Isa::kAvx512, true, 32, pairs_512},
    {Isa::kAvxVnni, true, 32, fours_256}, {Isa::kAvx512Vnni, true, 64, fours_512},
};
#endif

/// Reads a buffer once.
void read_all(const unsigned char* data, int64_t bytes) {
#if defined(__x86_64__)
  for (int64_t i = 0; i < bytes; i += 64) {
    asm volatile("movups (%0), %%xmm0\n\tmovups 16(%0), %%xmm1\n\tmovups 32(%0), %%xmm2\n\tmovups 48(%0), %%xmm3"
                 :
                 : "r"(data + i)
                 : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
  }
#else
  for (int64_t i = 0; i < bytes; i += 8) (void)*reinterpret_cast<const volatile uint64_t*>(data + i);
#endif
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void read_all_256(const unsigned char* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    asm volatile("vmovups (%0), %%ymm0\n\tvmovups 32(%0), %%ymm1" : : "r"(data + i) : "xmm0", "xmm1", "memory");
  }
}
#endif

}  // namespace

double multiply_rate(bool codes) {
  double rate = 0;
#if defined(__x86_64__)
  for (const Chains& chains : kChains) {
    if (chains.codes != codes || !has_isa(chains.isa)) continue;
    const auto products = static_cast<double>(12 * kSteps * chains.products);
    rate = std::max(rate, products / fastest(chains.run));
  }
#else
  (void)codes;
#endif
  return rate;
}

double read_rate(int64_t bytes) {
  constexpr int64_t kLine = 64, kLargest = int64_t{1} << 28, kRead = int64_t{1} << 24;
  const int64_t size = (std::clamp(bytes, int64_t{1}, kLargest) + kLine - 1) / kLine * kLine;
  const AlignedBuffer buffer(static_cast<size_t>(size));
  std::memset(buffer.as<unsigned char>(), 1, static_cast<size_t>(size));
  const int64_t times = std::max<int64_t>(1, kRead / size);
  auto* read = read_all;
#if defined(__x86_64__)
  if (has_isa(Isa::kAvx2)) read = read_all_256;
#endif
  const double seconds = fastest([&] {
    for (int64_t i = 0; i < times; ++i) read(buffer.as<unsigned char>(), size);
  });
  return static_cast<double>(size * times) / seconds;
}

}  // namespace tsquant::kernels
