"""Hosts reached over SSH, as JSON over HTTP."""
