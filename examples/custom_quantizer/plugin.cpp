// The quantizer as a shared library: `tsquant quantize --quantizer liblinear_only_quantizer.so`, or load_quantizer.
#include <tsquant/load_quantizer.h>

#include "linear_only_quantizer.h"

TSQUANT_REGISTER_QUANTIZER(LinearOnlyQuantizer);
