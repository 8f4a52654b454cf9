"""A model and a technique that harness learns of by entry points (docs/extending.md)."""
