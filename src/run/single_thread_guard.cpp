#include "run/single_thread_guard.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <mutex>

namespace tsquant {

namespace {

/// OpenBLAS's own functions, when LibTorch was linked to an OpenBLAS that has them.
struct BlasThreads {
  using Get = int (*)();
  using Set = void (*)(int);
  Get get = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "openblas_get_num_threads"));
  Set set = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  std::mutex mutex;
  int guards = 0, previous = 1;

  void enter() {
    if (!get || !set) return;
    const std::lock_guard<std::mutex> lock(mutex);
    if (guards++ > 0) return;
    previous = get();
    set(1);
  }
  void leave() {
    if (!get || !set) return;
    const std::lock_guard<std::mutex> lock(mutex);
    if (--guards == 0) set(previous);
  }
};

BlasThreads& blas() {
  static BlasThreads instance;
  return instance;
}

/// 0 outside of all guards.
thread_local int allowed_threads = 0;

}  // namespace

SingleThreadGuard::SingleThreadGuard() : previous_(at::get_num_threads()), previous_allowed_(allowed_threads) {
  if (allowed_threads == 0) allowed_threads = previous_;
  at::set_num_threads(1);
  blas().enter();
}

SingleThreadGuard::~SingleThreadGuard() {
  blas().leave();
  at::set_num_threads(previous_);
  allowed_threads = previous_allowed_;
}

int SingleThreadGuard::allowed() const { return allowed_threads; }

}  // namespace tsquant
