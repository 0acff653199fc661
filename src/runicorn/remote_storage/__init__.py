"""Copies of a storage root that lies on another machine."""

from .manifest_sync import ManifestSyncClient
from .receiving import Differs, Download, Incomplete

__all__ = ["Differs", "Download", "Incomplete", "ManifestSyncClient"]
