// A quantizer that cannot be made.
#include <tsquant/load_quantizer.h>

#include <stdexcept>

namespace {

class NoSettings : public tsquant::Quantizer {
 public:
  NoSettings() { throw std::runtime_error("settings.json is missing"); }
  tsquant::Annotations annotate(const tsquant::GraphView&) const override { return {}; }
};

}  // namespace

TSQUANT_REGISTER_QUANTIZER(NoSettings);
