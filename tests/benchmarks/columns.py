"""The workloads, written for each column, and the worker process that runs one column for `bench.py`.

Every column makes, from the same numbers, a `step` to be timed and `values`, which computes from the start what must
agree between columns. PyTorch and this framework share one text: only the imported library differs.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

Made = tuple[Callable[[], Any], Callable[[], list[Any]]]  # step, values
STEPS = 4  # training is compared over this many losses
BATCHES = 8  # data differ from step to step
LR = 0.01


def floats(seed: int, *shape: int, scale: float = 1.0) -> Any:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(scale)


def weights(*shapes: tuple[int, ...]) -> list[Any]:
    """A weight and a bias for each shape, in PyTorch's layout, at which signals keep their size."""
    pairs = ((floats(i, *s, scale=np.prod(s[1:]) ** -0.5), floats(i, s[0], scale=0.01)) for i, s in enumerate(shapes))
    return list(itertools.chain(*pairs))


def batches(count: int, *shape: int, classes: int) -> Any:
    """Endless (x, y): y are class numbers, or with `classes=0` one real number each."""
    rng = np.random.default_rng(1)
    xs = [floats(i, count, *shape) for i in range(BATCHES)]
    ys = [rng.integers(0, classes, count) if classes else floats(i, count, 1) for i in range(BATCHES)]
    return list(zip(xs, ys, strict=True))


def trained(step: Callable[[], Any]) -> Made:
    """A training step and the losses of the first few."""
    return step, lambda: [step() for _ in range(STEPS)]


# -- by hand ----------------------------------------------------------------------------------------------------------


def sigmoid(z: Any) -> Any:
    """1 / (1 + e⁻ᶻ)."""
    return 1 / (1 + np.exp(-z))


SLOPES = {  # name: value at z, and g times the derivative where the value is h
    "Sigmoid": (sigmoid, lambda g, h: g * h * (1 - h)),
    "ReLU": (lambda z: np.maximum(z, 0), lambda g, h: g * (h > 0)),
    "Tanh": (np.tanh, lambda g, h: g * (1 - h * h)),
}


def cross_entropy(z: Any, y: Any) -> tuple[Any, Any]:
    """The mean loss and its gradient."""
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    p /= len(y)
    return loss, p


def squared_error(z: Any, y: Any) -> tuple[Any, Any]:
    """The mean loss and its gradient."""
    r = z - y
    return (r * r).mean(), r * (2 / r.size)


class ByHand:
    """Forward and backward as one writes them in NumPy for exactly this network."""

    def add(self) -> Made:
        """One operation on small arrays."""
        a, b = floats(1, 4), floats(2, 4)
        return lambda: a + b, lambda: [*(a + b)]

    def chain(self, n: int, y: float, z: float) -> Made:
        """h = h·y + z n times on single numbers; without z only the product."""
        y, z = np.float32(y), np.float32(z)

        def step() -> list[Any]:
            h, before = np.float32(0.5), []
            for _ in range(n):
                before.append(h)
                h = h * y + z if z else h * y
            g, gy = np.float32(1), np.float32(0)
            for old in reversed(before):
                gy += g * old
                g = g * y
            return [h, g, gy]

        return step, step

    def fan_in(self, n: int) -> Made:
        """One number used n times."""

        def step() -> list[Any]:
            x = np.float32(0.5)
            h, g = x, np.float32(1)
            for _ in range(n):
                h = h + x
                g += np.float32(1)
            return [h, g]

        return step, step

    def elementwise(self, n: int) -> Made:
        """sum(tanh(0.7x + 0.3) · sigmoid(x) - exp(-x²)) and its gradient."""
        x = floats(1, n)

        def step() -> list[Any]:
            t, s, e = np.tanh(0.7 * x + 0.3), sigmoid(x), np.exp(-x * x)
            g = 0.7 * (1 - t * t) * s + t * s * (1 - s) + 2 * x * e
            return [(t * s - e).sum(), g]

        return step, lambda: (lambda y, g: [y, abs(g).sum()])(*step())

    def mlp(self, sizes: tuple[int, ...], batch: int, act: str, classes: int, momentum: float) -> Made:
        """One step of training a network of dense layers."""
        params = [np.ascontiguousarray(p.T) for p in weights(*zip(sizes[1:], sizes[:-1], strict=True))]
        speeds = [np.zeros_like(p) for p in params]
        data = itertools.cycle(batches(batch, sizes[0], classes=classes))
        layers = range(len(sizes) - 1)
        value, slope = SLOPES[act]
        loss_of = cross_entropy if classes else squared_error

        def step() -> Any:
            x, y = next(data)
            hs = [x]
            for i in layers:
                z = hs[i] @ params[2 * i]
                z += params[2 * i + 1]
                hs.append(value(z) if i < layers[-1] else z)
            loss, g = loss_of(hs[-1], y)
            grads: list[Any] = [None] * len(params)
            for i in reversed(layers):
                grads[2 * i], grads[2 * i + 1] = hs[i].T @ g, g.sum(0)
                if i:
                    g = slope(g @ params[2 * i].T, hs[i])
            for p, v, g in zip(params, speeds, grads, strict=True):
                if momentum:
                    v *= momentum
                    v += g
                    g = v
                p -= LR * g
            return loss

        return trained(step)

    def cnn(self) -> Made:
        """One step of training a small convolutional network; images are kept as (N, H, W, C)."""
        w1, b1, w2, b2, w3, b3, w4, b4 = weights(*CNN_SHAPES)
        w1, w2 = (np.ascontiguousarray(w.transpose(2, 3, 1, 0).reshape(-1, len(w))) for w in (w1, w2))
        w3 = w3.reshape(128, 32, 4, 4).transpose(2, 3, 1, 0).reshape(512, 128)  # PyTorch flattens (C, H, W)
        params = [w1, b1, w2, b2, np.ascontiguousarray(w3), b3, np.ascontiguousarray(w4.T), b4]
        data = itertools.cycle([(x.transpose(0, 2, 3, 1), y) for x, y in batches(64, 1, 28, 28, classes=10)])

        def convolved(x: Any, w: Any, b: Any) -> tuple[Any, Any, Any]:
            n, side, _, c = x.shape
            windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (1, 2))
            columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 25 * c)
            z = columns @ w
            z += b
            h = np.maximum(z, 0, out=z).reshape(n, (side - 4) // 2, 2, (side - 4) // 2, 2, -1)
            return columns, h, h.max((2, 4))

        def unpooled(g: Any, h: Any, top: Any) -> Any:
            top, g = (a[:, :, None, :, None] for a in (top, g))
            return (g * ((h == top) & (h > 0))).reshape(-1, h.shape[-1])

        def step() -> Any:
            x, y = next(data)
            w1, b1, w2, b2, w3, b3, w4, b4 = params
            c1, h1, p1 = convolved(x, w1, b1)
            c2, h2, p2 = convolved(p1, w2, b2)
            flat = p2.reshape(len(x), -1)
            h3 = np.maximum(flat @ w3 + b3, 0)
            loss, g4 = cross_entropy(h3 @ w4 + b4, y)
            g3 = g4 @ w4.T * (h3 > 0)
            g2 = unpooled((g3 @ w3.T).reshape(p2.shape), h2, p2)
            taps = (g2 @ w2.T).reshape(len(x), 8, 8, 5, 5, 16)
            back = np.zeros_like(p1)
            for i, j in itertools.product(range(5), range(5)):
                back[:, i : i + 8, j : j + 8] += taps[:, :, :, i, j]
            g1 = unpooled(back, h1, p1)
            for i, (h, g) in enumerate([(c1, g1), (c2, g2), (flat, g3), (h3, g4)]):
                params[2 * i] -= LR * (h.T @ g)
                params[2 * i + 1] -= LR * g.sum(0)
            return loss

        return trained(step)


CNN_SHAPES = (16, 1, 5, 5), (32, 16, 5, 5), (128, 512), (10, 128)


# -- with a framework -------------------------------------------------------------------------------------------------


class Framework:
    """The same with autodiff: `lib` is this framework or PyTorch, whose names are the same."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib

    def leaf(self, data: Any) -> Any:
        """A tensor of the numbers that wants a gradient."""
        return self.lib.tensor(data, requires_grad=True)

    def add(self) -> Made:
        a, b = self.leaf(floats(1, 4)), self.leaf(floats(2, 4))
        return lambda: a + b, lambda: [*(a + b)]

    def chain(self, n: int, y: float, z: float) -> Made:
        start, y, z = (self.leaf(np.float32(v)) for v in (0.5, y, z))

        def step() -> list[Any]:
            start.grad = y.grad = z.grad = None
            h = start
            if z:
                for _ in range(n):
                    h = h * y + z
            else:
                for _ in range(n):
                    h = h * y
            h.backward()
            return [h, start.grad, y.grad]

        return step, step

    def fan_in(self, n: int) -> Made:
        x = self.leaf(np.float32(0.5))

        def step() -> list[Any]:
            x.grad = None
            h = x
            for _ in range(n):
                h = h + x
            h.backward()
            return [h, x.grad]

        return step, step

    def elementwise(self, n: int) -> Made:
        lib, x = self.lib, self.leaf(floats(1, n))

        def step() -> list[Any]:
            x.grad = None
            y = (lib.tanh(0.7 * x + 0.3) * lib.sigmoid(x) - lib.exp(-x * x)).sum()
            y.backward()
            return [y, x.grad]

        return step, lambda: (lambda y, g: [y, abs(g).sum()])(*step())

    def train(self, layers: list[Any], params: list[Any], data: list[Any], classes: int, momentum: float) -> Made:
        """One step of training, on parameters that start as given."""
        lib, nn = self.lib, self.lib.nn
        net = nn.Sequential(*layers)
        for p, given in zip(net.parameters(), params, strict=True):
            p.data[...] = lib.tensor(given)
        optimizer = lib.optim.SGD(net.parameters(), lr=LR, momentum=momentum)
        loss_of = nn.functional.cross_entropy if classes else nn.functional.mse_loss
        turns = itertools.cycle([(lib.tensor(x), lib.tensor(y)) for x, y in data])

        def step() -> Any:
            x, y = next(turns)
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return trained(step)

    def mlp(self, sizes: tuple[int, ...], batch: int, act: str, classes: int, momentum: float) -> Made:
        nn, pairs = self.lib.nn, list(itertools.pairwise(sizes))
        layers = [layer for pair in pairs for layer in (nn.Linear(*pair), getattr(nn, act)())][:-1]
        params = weights(*((o, i) for i, o in pairs))
        return self.train(layers, params, batches(batch, sizes[0], classes=classes), classes, momentum)

    def cnn(self) -> Made:
        nn = self.lib.nn
        layers = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10)]
        return self.train(layers, weights(*CNN_SHAPES), batches(64, 1, 28, 28, classes=10), 10, 0.0)


# -- the worker -------------------------------------------------------------------------------------------------------


def turn(step: Callable[[], Any], seconds: float) -> float:
    """The median time of a step, in seconds, over samples of at least 0.2 ms."""
    start = perf_counter()
    step()
    inner = max(1, int(2e-4 / (perf_counter() - start)))
    times, end = [], perf_counter() + seconds
    while not times or perf_counter() < end:
        start = perf_counter()
        for _ in range(inner):
            step()
        times.append((perf_counter() - start) / inner)
    return sorted(times)[len(times) // 2]


def peak_growth(step: Callable[[], Any], times: int) -> float:
    """By how many MiB the process's largest size grows while `step` runs, without the garbage collector."""
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    gc.disable()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(times):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit


def main(library: str) -> None:
    """Do what comes in line by line, `[what, argument, ...]` as JSON, and answer each in one line."""
    if library == "numpy":
        column: Any = ByHand()
    else:
        lib = importlib.import_module(library)
        if library == "torch" and "1" in sys.argv[2:]:
            lib.set_num_threads(1)
        column = Framework(lib)
    step = values = None
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        answer: Any = None
        if what == "set up":
            name, args = arguments
            step = values = None  # the last workload's memory goes first
            step, values = getattr(column, name)(*args)
        elif what == "check":
            start = perf_counter()
            found = values()
            answer = [perf_counter() - start, [float(v.item()) for v in found]]
        elif what == "turn":
            answer = turn(step, *arguments)
        elif what == "peak":
            answer = peak_growth(step, *arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
