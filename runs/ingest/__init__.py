"""Ingest of logged data: from a watched folder, through one writer."""
