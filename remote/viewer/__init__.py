"""Viewers that run on a host, reached through a tunnel."""
