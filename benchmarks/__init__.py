"""Measurements that anyone can repeat: ``python -m benchmarks.NAME``. They begin as the command does."""

from geoseg.allocator import keep_freed

keep_freed()
