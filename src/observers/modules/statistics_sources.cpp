#include "observers/modules/sources.h"

#include <fmt/format.h>

// Types are numbers, as LibTorch prints them: 3 int32, 4 int64, 6 float32, 7 float64.

namespace tsquant {

const char* const kIdentitySource = R"(
def forward(self, x: Tensor) -> Tensor:
    return x
)";

const char* const kRecordingSource = R"(
def forward(self, x: Tensor) -> Tensor:
    self.tensor_val.append(x.detach().clone())
    return x
)";

const char* const kMinMaxSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() > 0:
        low, high = torch.aminmax(x.detach().to(self.min_val.dtype))
        self.min_val.copy_(torch.min(low, self.min_val))
        self.max_val.copy_(torch.max(high, self.max_val))
    return x
)";

const char* const kMovingAverageMinMaxSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() > 0:
        low, high = torch.aminmax(x.detach().to(self.min_val.dtype))
        if not (float(self.min_val) == float("inf") and float(self.max_val) == float("-inf")):
            low = self.min_val + self.averaging_constant * (low - self.min_val)
            high = self.max_val + self.averaging_constant * (high - self.max_val)
        self.min_val.copy_(low)
        self.max_val.copy_(high)
    return x
)";

namespace {

/// Minima and maxima of channels: the first batch sets them, later ones replace them by two expressions.
std::string per_channel_source(const char* next_min, const char* next_max) {
  return fmt::format(R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() > 0:
        rows = x.detach().to(self.min_val.dtype).transpose(0, self.ch_axis).reshape([x.size(self.ch_axis), -1])
        low, high = torch.aminmax(rows, dim=1)
        if self.min_val.numel() == 0:
            self.min_val.set_(low)
            self.max_val.set_(high)
        else:
            assert self.min_val.numel() == low.numel(), "the number of channels changed; observe this tensor per tensor"
            self.min_val.copy_({})
            self.max_val.copy_({})
    return x
)",
                     next_min, next_max);
}

}  // namespace

std::string per_channel_min_max_source() {
  return per_channel_source("torch.min(low, self.min_val)", "torch.max(high, self.max_val)");
}

std::string moving_average_per_channel_min_max_source() {
  return per_channel_source("self.min_val + self.averaging_constant * (low - self.min_val)",
                            "self.max_val + self.averaging_constant * (high - self.max_val)");
}

const char* const kSampleExtremaSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() > 0:
        values = x.detach().to(6)
        low, high = torch.aminmax(values)
        if not (bool(torch.isfinite(low)) and bool(torch.isfinite(high))):
            usable = torch.isfinite(values)
            self.unusable.add_(torch.stack([torch.sum(torch.logical_not(usable)), torch.sum(torch.isnan(values))]))
            values = values.masked_select(usable)
            if values.numel() > 0:
                low, high = torch.aminmax(values)
        if values.numel() > 0:
            self.sample_min.set_(torch.cat([self.sample_min, low.reshape([1])]))
            self.sample_max.set_(torch.cat([self.sample_max, high.reshape([1])]))
    return x
)";

}  // namespace tsquant
