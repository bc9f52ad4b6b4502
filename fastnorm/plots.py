# SPDX-License-Identifier: MIT
"""fastnorm.plots - the picture that ``fastnorm stats --plot`` draws."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import replacing

__all__ = ["plot_channels"]

_FORMATS = ("png", "svg", "pdf")
# Up to here every channel has its own error bar, above it there is a band.
_MOST_BARS = 64


def plot_channels(
    path: str | os.PathLike[str], mean: NDArray[Any], std: NDArray[Any]
) -> None:
    """Draws mean ± standard deviation of each channel into an image file.

    Parameters
    ----------
    path : path-like
        Ends in .png, .svg or .pdf.
    mean, std : ndarray
        Shape [C].

    Raises
    ------
    ValueError
        If the name has another ending or matplotlib is missing; one sentence.
    OSError
        If the file cannot be written.
    """
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in _FORMATS:
        raise ValueError(f"{path} must end in .png, .svg or .pdf")
    try:
        # Not pyplot: that would choose a window system and keep global state.
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError as error:
        raise ValueError(
            "a plot needs matplotlib, install it with: pip install 'fastnorm[cli]'"
        ) from error
    channels = np.arange(mean.size)
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    if mean.size <= _MOST_BARS:
        axes.errorbar(channels, mean, yerr=std, fmt="o", capsize=3, markersize=4)
    else:
        axes.fill_between(
            channels, mean - std, mean + std, alpha=0.3, linewidth=0, label="± std"
        )
        axes.plot(channels, mean, linewidth=0.8, label="mean")
        axes.legend()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("channel")
    axes.set_ylabel("mean ± std")
    axes.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, format=form)
