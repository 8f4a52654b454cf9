"""Training: `python -m harness.train` recovers the accuracy of a changed network; see `command.py`."""
