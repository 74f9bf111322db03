"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

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
