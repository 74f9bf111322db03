"""Small networks of several families, exported to ONNX: random weights, real outputs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.instances import Chip
from geoseg.tiling import Tiling
from geoseg.window import Window


class Yolo(nn.Module):
    """The outputs of a YOLOv8-seg export: boxes of stride 8 with scores and coefficients, prototypes of stride 4."""

    def __init__(self, classes: int = 2, prototypes: int = 8) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU())
        self.deeper = nn.Conv2d(16, 16, 3, 2, 1)
        self.rows = nn.Conv2d(16, 4 + classes + prototypes, 1)
        self.prototypes = nn.Sequential(nn.AvgPool2d(5, 1, 2), nn.Conv2d(16, prototypes, 3, 1, 1))
        # Untrained, all boxes would score alike, and masks would be nearly flat.
        for layer, gain in ((self.rows, 12.0), (self.prototypes[1], 30.0), (self.body[0], 3.0), (self.deeper, 3.0)):
            layer.weight.data *= gain

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        rows = self.rows(torch.relu(self.deeper(features)))
        height, width = rows.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        rows = rows.flatten(2)
        centre = torch.stack([x.flatten(), y.flatten()]) * 8 + 4 + rows[:, :2].tanh() * 8
        size = 30 * torch.exp(rows[:, 2:4].clamp(-1, 1))
        scores = rows[:, 4 : 4 + self.classes].sigmoid()
        return torch.cat([centre, size, scores, rows[:, 4 + self.classes :]], dim=1), self.prototypes(features)


class Queries(nn.Module):
    """The outputs of a Mask2Former: class logits and mask logits of stride 4 per query."""

    def __init__(self, queries: int = 12, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.SiLU(), nn.Conv2d(16, 16, 5, 2, 2), nn.SiLU())
        self.masks = nn.Sequential(nn.AvgPool2d(7, 1, 3), nn.Conv2d(16, queries, 3, 1, 1))
        self.kinds = nn.Linear(16, classes + 1)
        self.seeds = nn.Parameter(torch.randn(queries, 16) * 3)
        for layer, gain in ((self.body[0], 4.0), (self.masks[1], 60.0), (self.kinds, 6.0)):
            layer.weight.data *= gain

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return self.kinds(features.mean((2, 3))[:, None] + self.seeds), self.masks(features)


class EightBit(nn.Module):
    """A network that takes 8-bit values as they are."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.float() / 255)  # type: ignore[no-any-return]


def exported(
    net: nn.Module,
    size: tuple[int, int],
    *,
    outputs: list[str],
    dynamic: bool = True,
    dtype: torch.dtype = torch.float32,
) -> bytes:
    """A network as an ONNX file, for any number and size of images or for one image of the given size."""
    axes = {"images": {0: "n", 2: "h", 3: "w"}} if dynamic else None
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that takes a second, and not half a minute, is an old one
        torch.onnx.export(
            net.eval(), (torch.rand(1, 3, *size).to(dtype),), file, input_names=["images"], output_names=outputs,
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return file.getvalue()


def chips(height: int, width: int, *, core: int = 512, halo: int = 0, seed: int = 5) -> list[Chip]:
    """The chips of a picture with blotches of several sizes."""
    rng = np.random.default_rng(seed)
    coarse = [torch.from_numpy(rng.uniform(0, 255, (1, 3, height // s, width // s))) for s in (4, 12, 30)]
    layers = [nn.functional.interpolate(c, (height, width), mode="bilinear")[0].numpy() for c in coarse]
    return cut(np.mean(layers, axis=0).astype(np.uint8), core=core, halo=halo)


def cut(image: NDArray[np.uint8], *, core: int, halo: int) -> list[Chip]:
    """The chips of an image ``(3, h, w)``, all of it valid."""
    _, height, width = image.shape
    plan = Tiling(core=core, halo=halo).plan(Window(row_off=0, col_off=0, height=height, width=width))
    out = []
    for tile in plan.tiles():
        w = tile.window
        pixels = image[:, w.row_off : w.row_end, w.col_off : w.col_end]
        out.append(Chip(tile=tile, pixels=pixels, valid=np.ones(pixels.shape[1:], bool)))
    return out


def left_behind(script: str, home: Path) -> list[str]:
    """What a script of its own process leaves in its home folder and in that for temporary files, both empty before: a
    library that reports to its maker notes an id and what it has to say there."""
    env = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    env |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=env, cwd=home, check=True)
    return [str(path) for path in home.rglob("*") if path.is_file()]
