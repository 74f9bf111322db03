"""Benchmarks: geoseg side by side with others."""
