"""Artifacts: named, versioned, content-addressed files and their lineage."""
