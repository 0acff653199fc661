"""The site: addresses, error shape, rate limits, who may come in, and the base pages."""
