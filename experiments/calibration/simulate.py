"""Simulated quartets: noise of known kinds around no interaction at all, so that a true factor can be added.

Every function returns ln(throughput) [quartets, blocks, 4], columns baseline, arch, hw, combined, with all true means
zero. The four cells have independent noise (except for the drift) of standard deviation sd / 2 each, so that the
marginal standard deviation of L = y_combined + y_baseline - y_arch - y_hw is sd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Simulator = Callable[[Generator, int, int, float], Array]

MODE_RATIO = 1.6  # throughput of a cell in its fast mode / in its slow mode
MODE_BLOCKS = 30  # mean number of blocks a cell stays in a mode


@dataclass(frozen=True)
class Noise:
    """A kind of noise: how a figure or table calls it, and how one run of it is drawn."""

    name: str
    title: str
    simulate: Simulator


def white(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """Independent normal noise in each visit."""
    return sd / 2 * rng.standard_normal((quartets, blocks, 4))


def autoregressive(rho: float) -> Simulator:
    """Four independent stationary AR(1) series: x_b = rho x_(b-1) + noise, so that L is AR(1) with the same rho."""

    def simulate(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
        steps = rng.standard_normal((quartets, blocks, 4))
        steps[:, 1:] *= np.sqrt(1 - rho**2)
        for b in range(1, blocks):
            steps[:, b] += rho * steps[:, b - 1]
        return sd / 2 * steps

    return simulate


def masked(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """Half of the variance white, half AR(1) with rho 0.9: the slow part is hard to see and matters most."""
    slow = autoregressive(0.9)(rng, quartets, blocks, sd)
    return np.sqrt(0.5) * (slow + white(rng, quartets, blocks, sd))


def common_drift(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """White noise plus a drift of the machine: -0.5% a block and a random walk of 2% a block, the same for all cells.

    The drift is read at the time of each visit; a block's four visits are in random order, a quarter of a block
    apart, so that it does not cancel exactly.
    """
    visits = -0.005 / 4 + 0.02 / 2 * rng.standard_normal((quartets, blocks * 4))
    drift = np.cumsum(visits, axis=1).reshape(quartets, blocks, 4)
    return white(rng, quartets, blocks, sd) + rng.permuted(drift, axis=2)


def two_mode(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """White noise, and each cell in one of two modes 1.6 apart which it leaves with probability 1/30 a block."""
    mode = np.where(rng.random((quartets, 4)) < 0.5, -0.5, 0.5)
    logs = white(rng, quartets, blocks, sd)
    for b in range(blocks):
        logs[:, b] += np.log(MODE_RATIO) * mode
        mode = np.where(rng.random(mode.shape) < 1 / MODE_BLOCKS, -mode, mode)
    return logs


def flicker(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """1/f noise in each cell, cut out of a series four times as long, as slow as that one is long."""
    periods = 4 * blocks
    frequencies = np.arange(1, periods // 2 + 1)
    shape = (quartets, 4, frequencies.size)
    amplitudes = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(frequencies)
    series = np.fft.irfft(np.concatenate([np.zeros((quartets, 4, 1)), amplitudes], axis=-1), periods)
    return sd / 2 * np.moveaxis(series[..., :blocks] / series.std(axis=(0, 2))[:, None], 1, 2)


def step(rng: Generator, quartets: int, blocks: int, sd: float) -> Array:
    """White noise, and one cell that is 5% faster or slower from some block on; the true factor is the one before."""
    logs = white(rng, quartets, blocks, sd)
    after = np.arange(blocks) >= rng.integers(1, blocks, size=(quartets, 1))
    logs[..., 3] += np.log(1.05) * rng.choice([-1, 1], size=(quartets, 1)) * after
    return logs


def with_restarts(simulate: Simulator, rng: Generator, quartets: int, blocks: int, restarts: int, sd: float) -> Array:
    """Join `restarts` independent runs of `blocks` blocks each: [quartets, restarts * blocks, 4]."""
    return np.concatenate([simulate(rng, quartets, blocks, sd) for _ in range(restarts)], axis=1)


WHITE = Noise("white", "white", white)
AR6 = Noise("ar0.6", "AR(1) 0.6", autoregressive(0.6))
AR9 = Noise("ar0.9", "AR(1) 0.9", autoregressive(0.9))
DRIFT = Noise("drift", "common drift", common_drift)
MASKED = Noise("masked", "slow under white", masked)
TWO_MODE = Noise("two-mode", "two modes", two_mode)
FLICKER = Noise("1/f", "1/f", flicker)
STEP = Noise("step 5%", "a step of 5%", step)
