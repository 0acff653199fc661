"""The operation of a server: its configuration, its health, and its storage root."""
