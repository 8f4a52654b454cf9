"""A quartet under load: its variants, the choice of batch and rate, the tests in turn, their analysis and row."""
