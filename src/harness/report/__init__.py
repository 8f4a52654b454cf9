"""Reports: what a sweep found, for a person to read."""
