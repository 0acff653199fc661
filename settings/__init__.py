"""``local`` is the embedded default, ``team`` is driven by the environment."""
