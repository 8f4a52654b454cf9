"""A sweep from its checked configs to its last row: what is kept, built ahead, run, and judged together."""
