"""Layers on images of shape (images, channels, rows, columns), or (channels, rows, columns) for one image."""

from __future__ import annotations

import math
from typing import Any, Literal

from .._types import DTypeLike
from ..creation import empty
from ..errors import ArgumentError, ShapeError, describe
from ..ops.shape import shape_of
from ..ops.window import avg_pool2d, conv2d, max_pool2d
from ..ops.window.geometry import PairLike, pair
from . import init
from .layers import size
from .module import Module, Parameter


class Conv2d(Module):
    """Convolution with learned kernels: `weight` (out, in / groups, *kernel) and `bias` (out,).

    Both start uniform in ±1/√(in / groups · kernel size), as in PyTorch. `padding` puts zeros around the image, "same"
    as many as keep its size; `groups` divides the channels into parts that do not mix.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Conv2d(1, 16, 5)(tg.ones((8, 1, 28, 28))).shape
    (8, 16, 24, 24)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PairLike,
        stride: PairLike = 1,
        padding: PairLike | Literal["same", "valid"] = 0,
        dilation: PairLike = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.in_channels = size("Conv2d", "in_channels", in_channels)
        self.out_channels = size("Conv2d", "out_channels", out_channels)
        self.groups = size("Conv2d", "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"Conv2d: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size")
        self.stride = pair(stride, "Conv2d", "stride")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(f"Conv2d: padding must be numbers, 'same' or 'valid', not {padding!r}")
        self.padding = padding if isinstance(padding, str) else pair(padding, "Conv2d", "padding", least=0)
        self.dilation = pair(dilation, "Conv2d", "dilation")
        self.weight = Parameter(empty((out_channels, in_channels // groups, *self.kernel_size), dtype))
        self.bias = Parameter(empty(out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw starting values."""
        bound = 1.0 / math.sqrt(self.weight.size / self.out_channels)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        """(images, in, rows, columns) to (images, out, rows, columns)."""
        try:
            return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        except ShapeError:
            shape = shape_of(x)
            if len(shape) in (3, 4) and shape[-3] != self.in_channels:
                raise ShapeError(
                    f"Conv2d({self.extra_repr()}): the input {describe(x)} has {shape[-3]} channels, "
                    f"not in_channels={self.in_channels}"
                ) from None
            raise

    def extra_repr(self) -> str:
        """Channels, kernel, and what differs from the defaults."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        for name, default in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts if self.bias is not None else [*parts, "bias=False"])


class MaxPool2d(Module):
    """The largest element of each window; windows start every `stride` (default: `kernel_size`) elements.

    >>> import tinygrad_nn as tg
    >>> tg.nn.MaxPool2d(2)(tg.ones((8, 16, 24, 24))).shape
    (8, 16, 12, 12)
    """

    def __init__(
        self,
        kernel_size: PairLike,
        stride: PairLike | None = None,
        padding: PairLike = 0,
        dilation: PairLike = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = pair(kernel_size, "MaxPool2d", "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "MaxPool2d", "stride")
        self.padding = pair(padding, "MaxPool2d", "padding", least=0)
        self.dilation = pair(dilation, "MaxPool2d", "dilation")
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Any:
        """(images, channels, rows, columns) to the same with fewer rows and columns."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        """The window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window; windows start every `stride` (default: `kernel_size`) elements.

    >>> import tinygrad_nn as tg
    >>> tg.nn.AvgPool2d(2)(tg.ones((8, 16, 24, 24))).shape
    (8, 16, 12, 12)
    """

    def __init__(
        self,
        kernel_size: PairLike,
        stride: PairLike | None = None,
        padding: PairLike = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = pair(kernel_size, "AvgPool2d", "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "AvgPool2d", "stride")
        self.padding = pair(padding, "AvgPool2d", "padding", least=0)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        """(images, channels, rows, columns) to the same with fewer rows and columns."""
        return avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """The window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
