#include "run/single_thread_guard.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace tsquant {
namespace {

using GetThreads = int (*)();
using SetThreads = void (*)(int);

/// The number of threads of OpenBLAS; -1 when another library multiplies matrices.
int blas_threads() {
  const auto get = reinterpret_cast<GetThreads>(dlsym(RTLD_DEFAULT, "openblas_get_num_threads"));
  return get ? get() : -1;
}

TEST(SingleThreadGuard, NestedGuardsRestoreTheSettings) {
  const int threads = at::get_num_threads(), blas = blas_threads();
  at::set_num_threads(3);
  {
    const SingleThreadGuard outer;
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_EQ(outer.allowed(), 3);
    EXPECT_EQ(blas_threads(), std::min(blas, 1));
    {
      const SingleThreadGuard inner;
      EXPECT_EQ(inner.allowed(), 3);
    }
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_EQ(blas_threads(), std::min(blas, 1));
  }
  EXPECT_EQ(at::get_num_threads(), 3);
  EXPECT_EQ(blas_threads(), blas);
  at::set_num_threads(threads);
}

/// Operators whose last bits depend on the number of threads, with sizes that no vector divides.
TEST(SingleThreadGuard, BitsDoNotDependOnTheNumberOfThreads) {
  at::manual_seed(1);
  const auto x = at::randn({1, 199, 771}), w = at::randn({771, 384}), q = at::randn({1, 4, 65, 32});
  const std::vector<std::function<at::Tensor()>> operators{[&] { return at::sigmoid(x); },
                                                           [&] { return at::silu(x); },
                                                           [&] { return at::softmax(x, 1); },
                                                           [&] { return at::pow(at::abs(x), 1.7); },
                                                           [&] { return at::mean(x); },
                                                           [&] { return at::matmul(x, w); },
                                                           [&] { return at::matmul(q, q.transpose(-1, -2)); }};
  const int threads = at::get_num_threads();
  const auto set_blas = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  const int blas = blas_threads();
  size_t changed = 0;
  for (const auto& compute : operators) {
    std::vector<at::Tensor> deterministic, plain;
    for (const int count : {1, 2, 4}) {
      at::set_num_threads(count);
      if (set_blas) set_blas(std::min(count, 2));
      plain.push_back(compute());
      const SingleThreadGuard guard;
      deterministic.push_back(compute());
    }
    EXPECT_TRUE(at::equal(deterministic[0], deterministic[1]));
    EXPECT_TRUE(at::equal(deterministic[0], deterministic[2]));
    changed += at::equal(plain[0], plain[1]) && at::equal(plain[0], plain[2]) ? 0 : 1;
  }
  EXPECT_GE(changed, 3u) << "without the guard bits do depend on it, or this test shows nothing";
  at::set_num_threads(threads);
  if (set_blas) set_blas(blas);
}

}  // namespace
}  // namespace tsquant
