#include "kernels/gemm_table.h"

#include <cstring>

#include "kernels/igemm.h"

namespace tsquant::kernels {
namespace {

template <Isa isa>
bool has() {
  return has_isa(isa);
}

template <int64_t pixels>
int64_t always(int64_t) {
  return pixels;
}

void copy_bytes(const uint8_t* codes, int64_t n, void* elements) {
  std::memcpy(elements, codes, static_cast<size_t>(n));
}

}  // namespace

const std::vector<GemmRow>& gemm_table() {
  static const std::vector<GemmRow> table = [] {
    std::vector<GemmRow> rows = {{"scalar", Isa::kScalar, 1, false, 4, 1 << 15, has<Isa::kScalar>, always<1>, always<4>,
                                  run_scalar, copy_bytes}};
    for (const PairKernel& k : pair_kernels()) {
      rows.push_back({k.name, k.isa, 2, true, k.most_vectors, 1 << 20, k.supports, k.group_pixels, k.tile_pixels, k.run,
                      k.copy, crossed_kernel(k.isa)});
    }
#if defined(__x86_64__)
    rows.push_back({"avxvnni", Isa::kAvxVnni, 4, false, 1, 1 << 21, has<Isa::kAvxVnni>, always<1>, always<6>,
                    run_vnni256, copy_bytes});
    rows.push_back({"avx512vnni", Isa::kAvx512Vnni, 4, false, 4, 1 << 22, has<Isa::kAvx512Vnni>, always<1>,
                    vnni512_pixels, run_vnni512, copy_bytes});
#endif
    return rows;
  }();
  return table;
}

const GemmRow& best_gemm_row() {
  const auto& table = gemm_table();
  for (size_t i = table.size(); i-- > 1;) {
    if (table[i].supports()) return table[i];
  }
  return table.front();
}

}  // namespace tsquant::kernels
