"""Errors, doors, limits, origins, JSON: what all answers over HTTP have in common."""
