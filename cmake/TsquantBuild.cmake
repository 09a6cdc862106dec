# Compiler settings shared by every target: standard, output folders, ccache, linker, precompiled header, sanitizers.
include(GNUInstallDirs)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET default)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# -O2 keeps the build short; the hot loops are in LibTorch and in kernels that are written for it.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC collects its garbage from 128 MB on, which the precompiled header alone exceeds: a tenth of its time, or 20 %
  # more memory (2 GB for the largest batch).
  add_compile_options("SHELL:--param ggc-min-heapsize=4000000")
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")

find_program(TSQUANT_CCACHE ccache)
if(TSQUANT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness lets ccache work together with the precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime;${TSQUANT_CCACHE}")
endif()

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # ccache hands out precompiled headers of other checkouts, which Clang would refuse for the times of files.
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
endif()

find_program(TSQUANT_MOLD mold)
if(TSQUANT_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

find_package(Torch 1.13 REQUIRED)
find_package(fmt REQUIRED)
find_package(Threads REQUIRED)

# One interface target with everything our own code is compiled with.
add_library(tsquant_compile INTERFACE)
target_link_libraries(tsquant_compile INTERFACE ${TORCH_LIBRARIES})
# at::parallel_for is a template: without OpenMP our copies of it run on one thread. LibTorch uses GCC's; a second one,
# which Clang would bring, has threads of its own.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_package(OpenMP REQUIRED)
  target_link_libraries(tsquant_compile INTERFACE OpenMP::OpenMP_CXX)
endif()
# Debian's LibTorch is compiled with it, and what its headers lay out differently without (at::RecordFunction) must agree.
target_compile_definitions(tsquant_compile INTERFACE NDEBUG)
target_compile_options(tsquant_compile INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-deprecated-declarations)
if(TSQUANT_SANITIZE)
  set(TSQUANT_SANITIZE_OPTIONS -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize=vptr -g1)
  # The runtime is a library, too, so that programs without it can preload it: the tests (tests/CMakeLists.txt).
  set(TSQUANT_SANITIZE_LINK_OPTIONS -fsanitize=address,undefined -shared-libasan)
endif()
if(TSQUANT_SANITIZE_THREADS)
  set(TSQUANT_SANITIZE_OPTIONS -fsanitize=thread -g1)
  set(TSQUANT_SANITIZE_LINK_OPTIONS -fsanitize=thread)
endif()

# The LibTorch headers cost seconds in each file: compile them once and let every target reuse the result.
function(tsquant_add_pch name)
  add_library(${name} OBJECT "${PROJECT_SOURCE_DIR}/cmake/pch.cpp")
  target_link_libraries(${name} PRIVATE tsquant_compile)
  target_compile_options(${name} PRIVATE ${ARGN})
  target_precompile_headers(${name} PRIVATE "${PROJECT_SOURCE_DIR}/cmake/pch.h")
endfunction()
tsquant_add_pch(tsquant_pch ${TSQUANT_SANITIZE_OPTIONS})

# Files per batch. Most of what a batch costs are the templates of the LibTorch headers, which it pays once, in GCC even
# where it uses none of them; small batches are for those who change a file and compile again (preset dev).
set(TSQUANT_BATCH_SIZE 32 CACHE STRING "Files that are compiled together")

# Compiles the files of a target in batches.
function(tsquant_compile_with_pch name pch)
  target_link_libraries(${name} PRIVATE tsquant_compile)
  target_precompile_headers(${name} REUSE_FROM ${pch})
  # Executables would be compiled with -fPIE, which does not match the precompiled header.
  target_compile_options(${name} PRIVATE -fPIC ${ARGN})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${TSQUANT_BATCH_SIZE})
endfunction()

# tsquant_target(<name>): gives a target the shared flags and the precompiled header.
function(tsquant_target name)
  tsquant_compile_with_pch(${name} tsquant_pch ${TSQUANT_SANITIZE_OPTIONS})
  target_link_options(${name} PRIVATE ${TSQUANT_SANITIZE_LINK_OPTIONS})
endfunction()

# The same for tests: neither optimized nor sanitized, which would take longer to compile than the tests run. What they
# call is both. Where most tests come from another build, a precompiled header for the rest would not pay.
set(TSQUANT_TESTS_FROM "" CACHE PATH "A build folder whose tests of the library run on this build's, too")
if(TSQUANT_DEVELOPER_MODE AND NOT TSQUANT_TESTS_FROM)
  tsquant_add_pch(tsquant_test_pch -O0)
endif()
function(tsquant_test_target name)
  if(TSQUANT_TESTS_FROM)
    tsquant_target(${name})
  else()
    tsquant_compile_with_pch(${name} tsquant_test_pch -O0)
    if(TSQUANT_SANITIZE)
      target_link_options(${name} PRIVATE -Wl,--allow-shlib-undefined)  # the runtime comes when they start
    endif()
  endif()
endfunction()

# tsquant_alone(<file>...): files that are compiled by themselves, because they have helpers of the same names as others.
function(tsquant_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# The programs allocate through jemalloc: glibc's malloc takes four times as long for the many small nodes of a model
# with thousands of operators (bench_road_scale). The library leaves the choice to the program that links it.
find_library(TSQUANT_JEMALLOC jemalloc)  # -DTSQUANT_JEMALLOC=OFF: the malloc of the C library
function(tsquant_program target)
  if(TSQUANT_JEMALLOC AND NOT TSQUANT_SANITIZE)
    target_link_libraries(${target} PRIVATE -Wl,--no-as-needed "${TSQUANT_JEMALLOC}" -Wl,--as-needed)
  endif()
endfunction()
