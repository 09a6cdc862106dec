#include "observers/modules/sources.h"

// Types are numbers, as LibTorch prints them: 3 int32, 4 int64, 6 float32, 7 float64.

namespace tsquant {

const char* const kHistogramSource = R"(
def forward(self, x: Tensor) -> Tensor:
    values = x.detach().to(6).reshape([-1])
    if values.numel() > 0:
        low, high = torch.aminmax(values)
        if not (bool(torch.isfinite(low)) and bool(torch.isfinite(high))):
            values = values.masked_select(torch.isfinite(values))
    if values.numel() > 0:
        low, high = torch.aminmax(values)
        self.widen(low, high)
        self.count(values)
    return x

def widen(self, low: Tensor, high: Tensor) -> None:
    if bool(self.min_val > self.max_val):
        self.min_val.copy_(low)
        self.max_val.copy_(high)
        return
    low = torch.min(low, self.min_val)
    high = torch.max(high, self.max_val)
    if bool(low == self.min_val) and bool(high == self.max_val):
        return
    cells = self.bins * self.upsample_rate
    width = (float(high) - float(low)) / float(self.bins)
    cell = (float(self.max_val) - float(self.min_val)) / float(cells)
    middles = (torch.arange(cells, dtype=7) + 0.5) * cell + float(self.min_val)
    bin_of_cell = torch.floor((middles - float(low)) / width).to(4).clamp(0, self.bins - 1)
    parts = torch.repeat_interleave(self.histogram / self.upsample_rate, self.upsample_rate)
    self.histogram.copy_(torch.zeros_like(self.histogram).index_add_(0, bin_of_cell, parts))
    self.min_val.copy_(low)
    self.max_val.copy_(high)

def count(self, values: Tensor) -> None:
    low = float(self.min_val)
    high = float(self.max_val)
    if low < high:
        # Float32 counts are exact up to 2^24, float32 differences up to 3e38.
        for part in torch.split(values, 16777216):
            if high / 2.0 - low / 2.0 > 1e30:
                part = part.to(7)
            self.histogram.add_(torch.histc(part, self.bins, low, high))
    else:
        self.histogram.select(0, 0).add_(values.numel())
)";

const char* const kHistogram1_13Source = R"(
def forward(self, x: Tensor) -> Tensor:
    values = x.detach().to(6)
    if values.numel() > 0:
        low, high = torch.aminmax(values)
        if not (bool(torch.isfinite(low)) and bool(torch.isfinite(high))):
            values = values.masked_select(torch.isfinite(values))
    if values.numel() > 0:
        low, high = torch.aminmax(values)
        if float(self.min_val) == float(self.max_val) or float(self.min_val) == float("inf"):
            self.histogram.copy_(self.count(values, low, high))
        else:
            cell = (self.max_val - self.min_val) / (self.bins * self.upsample_rate)
            low = torch.min(low, self.min_val)
            high = torch.max(high, self.max_val)
            cells_per_bin = int(torch.ceil((high - low) / (self.bins * cell)))
            high = high + (cells_per_bin * (self.bins * cell) - (high - low))
            first = int(torch.round((self.min_val - low) / cell))
            counts = self.count(values, low, high)
            if bool(low == self.min_val) and bool(high == self.max_val):
                self.histogram.add_(counts)
            else:
                self.histogram.copy_(counts + self.resampled(cells_per_bin, first))
        self.min_val.copy_(low)
        self.max_val.copy_(high)
    return x

def count(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.histc(values, self.bins, float(torch.trunc(low)), float(torch.trunc(high)))

def resampled(self, cells_per_bin: int, first: int) -> Tensor:
    cells = torch.zeros([self.bins * cells_per_bin])
    cells[first:first + self.bins * self.upsample_rate] = torch.repeat_interleave(self.histogram, self.upsample_rate)
    integral = torch.cumsum(cells, 0, dtype=7)[cells_per_bin - 1::cells_per_bin]
    before = torch.zeros([self.bins])
    before[1:self.bins] = integral[0:-1]
    return ((integral - before) / self.upsample_rate).to(6)
)";

}  // namespace tsquant
