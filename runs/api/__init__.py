"""JSON over HTTP: ``v1`` and ``v2``, and the tables that both send."""
