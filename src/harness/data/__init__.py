"""Data: where the inputs of a measurement come from."""
