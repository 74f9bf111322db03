"""The signals by which somebody asks a process to end, and lets it clear up first."""

from __future__ import annotations

import signal

STOPS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; what schedulers send; and what comes where a terminal is closed or a connection lost (not on Windows)."""
