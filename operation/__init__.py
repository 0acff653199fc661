"""Operating a server: its configuration, its health, and the storage root that it serves."""
