"""Opening and keeping SSH connections to hosts."""
