#include "observers/modules/sources.h"

// Types are numbers, as LibTorch prints them: 3 int32, 4 int64, 6 float32, 7 float64.

namespace tsquant {

const char* const kQParamsSource = R"(
def qparams_of(self, low: Tensor, high: Tensor, eps: Tensor, quant_min: int, quant_max: int, qscheme: int,
               symmetric_zero: int) -> Tuple[Tensor, Tensor]:
    if low.numel() == 0 or (bool((low == float("inf")).all()) and bool((high == float("-inf")).all())):
        return torch.ones([1]), torch.zeros([1], dtype=3)
    assert bool((low <= high).all()), "the smallest value observed is above the largest one, or NaN"
    low = low.reshape([-1])
    high = high.reshape([-1])
    steps = float(quant_max - quant_min)
    if qscheme == 4:  # per_channel_affine_float_qparams
        scale = (high - low) / steps
        scale = torch.where(scale > eps, scale, torch.ones_like(scale))
        return scale, -1 * low / scale
    low = torch.min(low, torch.zeros_like(low))
    high = torch.max(high, torch.zeros_like(high))
    if qscheme == 2 or qscheme == 3:  # symmetric
        scale = torch.max(torch.max(-low, high) / (steps / 2), eps)
        return scale, torch.full_like(scale, symmetric_zero, dtype=3)
    scale = torch.max((high - low) / steps, eps)
    zero_point = quant_min - torch.nan_to_num(torch.round(low / scale)).to(7)
    return scale, torch.clamp(zero_point, quant_min, quant_max).to(3)
)";

const char* const kFakeQuantizeStepSource = R"(
def fake_quantize(self, x: Tensor) -> Tensor:
    if self.is_per_channel:
        assert self.scale.numel() == x.size(self.ch_axis), "it has no scales: let it observe a batch before its observer is disabled"
        y = torch.fake_quantize_per_channel_affine(x.to(6), self.scale, self.zero_point, self.ch_axis,
                                                   self.quant_min, self.quant_max)
    else:
        y = torch.fake_quantize_per_tensor_affine(x.to(6), self.scale, self.zero_point, self.quant_min,
                                                  self.quant_max)
    return y.to(x.dtype)
)";

const char* const kFakeQuantizeSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if bool(self.observer_enabled):
        observer = self.activation_post_process
        observer.forward(x.detach())
        scale, zero_point = self.qparams_of(observer.min_val, observer.max_val, observer.eps, self.quant_min,
                                            self.quant_max, self.qscheme, self.symmetric_zero)
        self.scale.set_(scale)
        self.zero_point.set_(zero_point)
    if bool(self.fake_quant_enabled) and x.numel() > 0:
        x = self.fake_quantize(x)
    return x
)";

// The operator knows channels along the first axis only, and cannot resize the buffers of a loaded model.
const char* const kFusedMovingAvgObsSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() == 0:
        return x
    if not self.is_per_channel:
        return self.observe_and_quantize(x.to(6)).to(x.dtype)
    if self.activation_post_process.min_val.numel() == 0:
        self.set_channels(x.size(self.ch_axis))
    y = self.observe_and_quantize(x.to(6).transpose(0, self.ch_axis).contiguous())
    return y.transpose(0, self.ch_axis).to(x.dtype)

def observe_and_quantize(self, x: Tensor) -> Tensor:
    observer = self.activation_post_process
    return torch.fused_moving_avg_obs_fake_quant(
        x, self.observer_enabled, self.fake_quant_enabled, observer.min_val, observer.max_val, self.scale,
        self.zero_point, observer.averaging_constant, self.quant_min, self.quant_max, 0, self.is_per_channel,
        self.is_symmetric_quant)

def set_channels(self, count: int) -> None:
    self.activation_post_process.min_val.set_(torch.full([count], float("inf")))
    self.activation_post_process.max_val.set_(torch.full([count], float("-inf")))
    self.scale.set_(torch.ones([count]))
    self.zero_point.set_(torch.zeros([count], dtype=3))
)";

const char* const kFixedQParamsSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if bool(self.fake_quant_enabled) and x.numel() > 0:
        x = self.fake_quantize(x)
    return x
)";

// The parameters are written through `data`, so that a module that is called twice has a gradient. While they follow
// the observer they have none, as with torch.ao's enable_static_estimate.
const char* const kLearnableSource = R"(
def forward(self, x: Tensor) -> Tensor:
    if x.numel() == 0:
        return x
    follows_observer = bool(self.static_enabled)
    if follows_observer:
        self.follow_observer(x.detach())
    else:
        self.scale.data.clamp_(min=float(self.eps))
    if not bool(self.fake_quant_enabled):
        return x
    if self.is_symmetric_quant:
        self.zero_point.data.zero_()
    grad_factor = 1.0
    if self.use_grad_scaling:
        grad_factor = 1.0 / float(x.numel() * self.quant_max) ** 0.5
    scale = self.scale
    zero_point = self.zero_point
    if follows_observer:
        scale = scale.detach()
        zero_point = zero_point.detach()
    if self.is_per_channel:
        y = torch._fake_quantize_learnable_per_channel_affine(
            x.to(6), scale, zero_point, self.ch_axis, self.quant_min, self.quant_max, grad_factor)
    else:
        y = torch._fake_quantize_learnable_per_tensor_affine(
            x.to(6), scale, zero_point, self.quant_min, self.quant_max, grad_factor)
    return y.to(x.dtype)

def follow_observer(self, x: Tensor) -> None:
    observer = self.activation_post_process
    observer.forward(x)
    scale, zero_point = self.qparams_of(observer.min_val, observer.max_val, observer.eps, self.quant_min,
                                        self.quant_max, self.qscheme, self.symmetric_zero)
    if self.scale.numel() != scale.numel():
        self.scale.requires_grad_(False).set_(torch.ones_like(scale)).requires_grad_(True)
        self.zero_point.requires_grad_(False).set_(torch.zeros_like(scale)).requires_grad_(True)
    self.scale.data.copy_(scale)
    self.zero_point.data.copy_(zero_point)
)";

}  // namespace tsquant
