"""Commands: doctor, capacity, train, ui.

The other commands: doctor, ui, capacity, train.
"""
