"""Settings: ``local`` is the embedded default, ``team`` is configured by the environment."""
