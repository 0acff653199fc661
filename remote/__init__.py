"""Remote hosts: runs that are brought in over SSH."""
