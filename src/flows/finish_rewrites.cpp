#include "flows/finish_rewrites.h"

#include "evaluation/compare.h"
#include "lowering/lowering.h"

namespace tsquant {

void finish_rewrites(RewriteRunner& runner) {
  runner.run("stamp_value_names", stamp_value_names);
  runner.run("make_constants_printable", make_constants_printable);
  runner.run("drop_unread", drop_unread);
}

}  // namespace tsquant
