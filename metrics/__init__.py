"""Metric series, kept as columns. Knows nothing of files, HTTP or who may see what."""
