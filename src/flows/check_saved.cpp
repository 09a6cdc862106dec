#include "flows/check_saved.h"

#include "flows/bitwise_equal.h"
#include "tsquant/error.h"
#include "tsquant/load_mapped.h"

namespace tsquant {

void require_same_results(const Model& model, const c10::optional<Sample>& probe, const OutputFile& file) {
  const Model reloaded = load_mapped(file.staged_path());
  if (!probe || bitwise_equal(model.run(*probe), reloaded.run(*probe))) return;
  throw Error(ErrorCode::kInternal, "the saved model computes something else than the model in memory", file.path(),
              "please report this with the model");
}

}  // namespace tsquant
