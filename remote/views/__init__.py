"""Hosts reached over SSH (``contract/remote.md``)."""
