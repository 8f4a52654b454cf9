"""Command line -> typed configs of every job, and what --help says."""
