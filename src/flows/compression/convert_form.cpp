#include "flows/compression/convert_form.h"

#include "flows/finish_rewrites.h"
#include "lowering/compressed/fuse_decompression.h"
#include "passes/rewrite_runner.h"
#include "tsquant/compress_pt2e.h"
#include "tsquant/error.h"

namespace tsquant {

std::map<std::string, std::string> convert_in_place(Model& model, OutputForm form) {
  if (form != OutputForm::kReference && form != OutputForm::kLowered) {
    throw Error(ErrorCode::kInvalidArgument, "compressed weights have two forms", "form",
                "use the reference or the lowered form");
  }
  if (!has_compressed_weights(model)) {
    throw Error(ErrorCode::kUnsupportedModel, "the model has no compressed weights", "forward",
                "convert what compress_weights or compress_pt2e has made");
  }
  std::map<std::string, std::string> kernels;
  RewriteRunner runner(model);
  if (form == OutputForm::kReference) {
    runner.run("unfuse_decompression", unfuse_decompression);
  } else {
    runner.run("fuse_decompression", [&](RewriteContext& ctx) { return fuse_decompression(ctx.model, {}, kernels); });
  }
  finish_rewrites(runner);
  return kernels;
}

Model convert_form(Model& model, OutputForm form, bool do_copy) {
  Model result = do_copy ? model.clone() : model;
  convert_in_place(result, form);
  return result;
}

}  // namespace tsquant
