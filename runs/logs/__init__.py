"""The log of a run: its lines, and its live followers."""
