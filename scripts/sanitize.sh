#!/usr/bin/env bash
# Builds our code with AddressSanitizer and UBSan, the tests and benchmarks without, and runs the unit tests, without
# those whose question is time, the number of threads or hundreds of recorded streams, and without the kit's models: the
# release build runs them. Then the operators with ThreadSanitizer, and calls of them from several threads.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset sanitize >/dev/null
cmake --build --preset sanitize --target library_tests
# LibTorch itself is not instrumented: its container annotations and one-time allocations are not our leaks.
export ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export OMP_NUM_THREADS=1 TSQUANT_KIT=/nonexistent
export GTEST_FILTER='-PlacementScaleTest.*:PassesScaleTest.convolutions*:*.IsLinear:*linear_time:LowerToEngineCost.ConvolutionsPay:StatisticsOptions.Threads*:ObserverModuleGolden.*TorchAo:FakeQuantizeModuleGolden.AllOfTorchAo:ViewAfterPasses.EqualsTheFxGraph:AwqScale.GivesNncfsScales'
ctest --test-dir build-sanitize --output-on-failure --no-tests=error -R '^unit_' -j 2
cmake --preset threads >/dev/null
cmake --build --preset threads --target race_tests
ctest --test-dir build-threads --output-on-failure --no-tests=error -R '^race_tests$'
