"""The albucore engine: its normalization of an image, then the channels to the front.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnorm

from .cases import Case, Data
from .engine import Engine, Job
from .engine_opencv import session


def _normalize_image(case: Case, data: Data) -> Job:
    import albucore

    n, height, width, channels = case.shape
    images = data.x
    mean = 255 * np.array(fastnorm.IMAGENET_MEAN, np.float32)
    factor = 1 / (255 * np.array(fastnorm.IMAGENET_STD, np.float32))
    shape = (n, channels, height, width)
    kept = np.full(shape, 0.5, np.float32) if case.out else None

    def call() -> Any:
        out = np.empty(shape, np.float32) if kept is None else kept
        for image, result in zip(images, out, strict=True):
            result[...] = albucore.normalize(image, mean, factor).transpose(2, 0, 1)
        return out

    return Job(call)


# albucore works through OpenCV, whose number of threads is its own
ALBUCORE = Engine(
    "albucore", ("albucore", "cv2"), {"normalize_image": _normalize_image}, session
)
