"""The base of every app: HTTP, access, the admin. It has no models and imports no other app."""
