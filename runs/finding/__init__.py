"""Finding runs: filters, full text, the query language, tags, and pages of a list."""
