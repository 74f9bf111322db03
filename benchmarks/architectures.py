"""What the parts of the network are worth: backbones, pyramids, anchors and heads, trained alike and for as many steps.

    python -m benchmarks.architectures [--steps 450] [--only as_bundled anchors_small] [--folder runs/architectures]

Each is trained from random weights on the sources of configs/train/buildings_5.toml, with the same chips in the same
order, and judged on generated towns with unseen seeds and on the real areas (benchmarks.models). So short a training
shows what learns fast, not what ends best: as_bundled is there twice, with other first weights, to show what chance
does. A weights file that is there already is not trained again. Prints Markdown; CPU seconds are of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import geoseg
from benchmarks.models import FIRST_SEED, Case, generated, measure, real
from geoseg.evaluation import assess
from geoseg.training import TrainConfig, read_train_config, train

BASE = Path(__file__).resolve().parents[1] / "configs" / "train" / "buildings_5.toml"
VARIANTS: dict[str, dict[str, Any]] = {
    "as_bundled": {},
    "as_bundled_again": {},
    "pyramid_64": {"fpn_channels": 64},
    "pyramid_192": {"fpn_channels": 192},
    "anchors_small": {"anchor_sizes": [9, 18, 36, 72, 144]},
    "anchors_square": {"anchor_ratios": [1.0]},
    "masks_wide": {"mask_head": [128, 128, 128, 128]},
    "masks_slim": {"mask_head": [32, 32]},
    "box_512": {"box_head": 512},
    "box_128": {"box_head": 128},
    "resnet34": {"backbone": "resnet34"},
}


def settings(name: str, steps: int) -> TrainConfig:
    """The bundled model's training from random weights: short, on small chips."""
    config = read_train_config(BASE)
    schedule = config.schedule.model_copy(
        update={"steps": steps, "minutes": None, "batch": 4, "chip": 256, "learning_rate": 7e-4, "warmup": 60,
                "ema": 0.99, "seed": 22 if name.endswith("_again") else 21, "checkpoint_every": 100}
    )  # fmt: skip
    architecture = {**config.model.architecture, **VARIANTS[name]}
    model = config.model.model_copy(update={"start": "", "name": name, "architecture": architecture})
    return config.model_copy(update={"schedule": schedule, "model": model})


def row(name: str, weights: Path, step_s: float | None, grounds: dict[str, list[Case]]) -> str:
    """A line of the table."""
    model = geoseg.load_model(weights, device="cpu")
    cells = [name, f"{weights.stat().st_size / 1e6:.0f} MB", "-" if step_s is None else f"{step_s:.2f} s"]
    spent = 0.0
    for cases in grounds.values():
        began = time.process_time()
        done = [measure(case, model, None) for case in cases]
        spent += time.process_time() - began
        every = assess([case.every for case in done])
        _, best = (every.curve.best if every.curve else None) or (0.0, 0.0)
        cells.append(f"{best:.3f}, {every.masks.ap50 if every.masks else float('nan'):.3f}")
    return f"| {' | '.join([*cells, f'{spent:.0f} s'])} |"


def main() -> None:
    """Parse the arguments, train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--folder", type=Path, default=Path("runs/architectures"))
    parser.add_argument("--scenes", type=int, default=5, help="generated scenes to judge by")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        grounds = {"generated": list(generated("buildings", args.scenes, FIRST_SEED, Path(folder)))}
        grounds |= {case.name: [case] for case in real(None, Path(folder))}
        head = ["network", "weights", "CPU per step", *(f"{name}: F1, AP50" for name in grounds), "CPU to judge"]
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
        for name in args.only:
            weights, step_s = args.folder / f"{name}_{args.steps}.safetensors", None
            if not weights.exists():
                began = time.process_time()
                train(settings(name, args.steps), weights, device=args.device, log=lambda _: None)
                step_s = (time.process_time() - began) / args.steps
            print(row(name, weights, step_s, grounds), flush=True)


if __name__ == "__main__":
    main()
