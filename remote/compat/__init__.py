"""Routes of Runicorn 0.4 for remote storage, on top of ``sync``."""
