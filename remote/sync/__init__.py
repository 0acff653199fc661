"""Copying the runs of a host into the storage root."""
