"""The log of a run: its lines, and those who follow it live."""
