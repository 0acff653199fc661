"""Runs: projects, runs, their files and logs, their ingest, and the actions on them."""
