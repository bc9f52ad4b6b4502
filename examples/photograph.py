# photograph.py - real photographs to what a network reads, and a picture of it.
# SPDX-License-Identifier: MIT
"""Two photographs, normalised as for ImageNet; normalised.png shows the planes."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

import fastnorm

matplotlib.use("agg")

photographs = np.stack(load_sample_images().images)  # two of 427 x 640, uint8
print("photographs:", photographs.shape, photographs.dtype)

# The middle 224 x 400 of both, read where it is; the output is channels first.
middle = photographs[:, 100:324, 120:520]
x = fastnorm.normalize_image(middle, "imagenet", "imagenet")
print("for a network:", x.shape, x.dtype)
for name, plane in zip(("red", "green", "blue"), x.swapaxes(0, 1), strict=True):
    low, high = plane.min(), plane.max()
    print(f"{name:>5}: {low:.3f} to {high:.3f}, mean {plane.mean(dtype=float):.3f}")

# Back again: nothing is lost.
std = np.reshape(fastnorm.IMAGENET_STD, (3, 1, 1))
mean = np.reshape(fastnorm.IMAGENET_MEAN, (3, 1, 1))
back = np.rint((x * std + mean) * 255).transpose(0, 2, 3, 1).astype(np.uint8)
print("every byte comes back:", np.array_equal(back, middle))

figure, rows = plt.subplots(2, 4, figsize=(14, 4.5), layout="constrained")
for picture, planes, row in zip(middle, x, rows, strict=True):
    row[0].imshow(picture)
    row[0].set_title("uint8, 0 to 255")
    for axes, plane, name in zip(
        row[1:], planes, ("red", "green", "blue"), strict=True
    ):
        shown = axes.imshow(plane, cmap="gray", vmin=-2.2, vmax=2.7)
        axes.set_title(f"{name}, normalised")
figure.colorbar(shown, ax=rows[:, 1:], shrink=0.8)
for axes in rows.flat:
    axes.axis("off")
figure.savefig("normalised.png", dpi=100)

# Prints:
# photographs: (2, 427, 640, 3) uint8
# for a network: (2, 3, 224, 400) float32
#   red: -2.118 to 2.249, mean 0.231
# green: -2.036 to 2.429, mean 0.045
#  blue: -1.804 to 2.640, mean -0.055
# every byte comes back: True
