"""Finding runs: filters, words, the query language, tags, and pages of a list."""
