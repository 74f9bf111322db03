"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# No test asserts wall time: machines are shared and noisy.
# Continuous integration tries the same examples every time: a red run is then the change's doing. At a desk they vary.
hypothesis_settings.register_profile(
    "geoseg",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("geoseg")

# What a script starts in the background ignores Ctrl-C, what nohup starts ignores a lost terminal, and so does all that
# they start: tests that send these would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if os.name != "nt" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery beside the repository; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real imagery (../shared/data) is not here")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The generated sample scenes that ship with the project."""
    return ROOT / "data_samples"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network, small and untrained: it finds something in any picture."""
    import torch

    from geoseg.detectors import ModelCard
    from geoseg.detectors.network import build
    from geoseg.detectors.weights import save_weights

    torch.manual_seed(3)
    architecture = {"fpn_channels": 16, "box_head": 16, "mask_head": [8], "detections": 8}
    card = ModelCard(
        classes=("thing",),
        name="random",
        bands=("red", "green", "blue"),
        mean=(110.0,) * 3,
        std=(58.0,) * 3,
        score_threshold=0.2,
        core=96,
        halo=16,
        architecture=architecture,
    )
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    return save_weights(build(architecture, 1), card, path)
