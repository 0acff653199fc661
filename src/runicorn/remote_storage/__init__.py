"""Copies of a storage root that lies on another machine."""

from .cache_manager import LocalCacheManager
from .manifest_sync import ManifestSyncClient
from .metadata_sync import MetadataSyncService, SyncProgress
from .receiving import Differs, Download, Incomplete

__all__ = [
    "Differs",
    "Download",
    "Incomplete",
    "LocalCacheManager",
    "ManifestSyncClient",
    "MetadataSyncService",
    "SyncProgress",
]
