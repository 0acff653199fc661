"""Runs: projects, runs, their files and logs, how they come in and what people do to them."""
