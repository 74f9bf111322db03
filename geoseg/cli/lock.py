"""One run per output: the lock as the commands know it."""

from __future__ import annotations

from geoseg.locks import output_lock

__all__ = ["output_lock"]
