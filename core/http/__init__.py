"""The HTTP layer that all apps share: errors, doors, limits, origins, JSON."""
