"""What a training tells while it runs: a line of JSON now and then, and TensorBoard where it is asked for."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from geoseg.errors import ConfigError, ResourceError


class Journal:
    """Rows of figures, in ``<weights>.jsonl`` and in TensorBoard.

    Args:
        path: file that rows are added to; None: none are (another process writes them).
        tensorboard: folder for TensorBoard; None: none.

    Raises:
        ConfigError: the folder for TensorBoard is a file.
        ResourceError: TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path | None, tensorboard: Path | None = None) -> None:
        self.path = path
        self._board: Any = None
        if path is not None and tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ResourceError(
                    "curves for TensorBoard, which is not installed", remedy="pip install 'geoseg[tensorboard]'"
                ) from error
            if tensorboard.exists() and not tensorboard.is_dir():
                raise ConfigError(f"{tensorboard}, a file, for the curves of TensorBoard", allowed="a folder")
            self._board = SummaryWriter(str(tensorboard))
        if path is not None:
            _end_line(path)

    def row(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One row: ``kind`` is ``training`` or ``validation``."""
        if self.path is None:
            return
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}  # a learning rate may be tiny
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **rounded}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
            self._board.flush()

    def close(self) -> None:
        """Nothing more comes."""
        if self._board is not None:
            self._board.close()


def _end_line(path: Path) -> None:
    """Set what comes next apart from a line that was left half written."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("ab+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def read_rows(path: Path) -> dict[str, list[dict[str, float]]]:
    """The rows of each kind by rising step; of two with one step (a resumed training tells again) the last.

    A line that was half written when a training was killed is left out.
    """
    found: dict[str, dict[int, dict[str, float]]] = {"training": {}, "validation": {}}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                row = json.loads(line)
                found.setdefault(row.pop("kind", "training"), {})[int(row["step"])] = row
    return {kind: [rows[step] for step in sorted(rows)] for kind, rows in found.items()}
