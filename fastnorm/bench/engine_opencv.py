"""The OpenCV engine: blobFromImages, and the division that it leaves to the caller.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fastnorm

from .cases import Case, Data
from .engine import Engine, Job


@contextmanager
def session(threads: int) -> Iterator[None]:
    """OpenCV held to a number of threads."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _normalize_image(case: Case, data: Data) -> Job:
    import cv2

    images = list(data.x)
    size = (case.shape[2], case.shape[1])
    # blobFromImages subtracts first and scales then, by one number for all channels
    mean = tuple(255 * value for value in fastnorm.IMAGENET_MEAN)
    std = np.array(fastnorm.IMAGENET_STD, np.float32).reshape(1, -1, 1, 1)

    def call() -> Any:
        blob: Any = cv2.dnn.blobFromImages(images, 1 / 255, size, mean)
        blob /= std
        return blob

    return Job(call, allocates=True)


OPENCV = Engine("opencv", ("cv2",), {"normalize_image": _normalize_image}, session)
