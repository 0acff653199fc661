"""The composition of the site: URLs, the server process, checks, and the wiring of the apps."""
