"""The v0.4 API of runs, their metrics, projects, exports and imports."""
