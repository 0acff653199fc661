"""JSON over HTTP: ``v1`` and ``v2``, and what both answer with."""
