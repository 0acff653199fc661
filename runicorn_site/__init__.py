"""Composition: addresses, the server process, checks, and how the apps are connected."""
