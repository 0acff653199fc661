"""``local`` is the embedded default, ``team`` the environment-driven one; both start from ``base``."""
