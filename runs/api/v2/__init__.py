"""The V2 API: for installations with many runs."""
