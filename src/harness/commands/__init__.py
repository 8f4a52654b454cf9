"""Commands: doctor, capacity, train, export, ui.

The other commands: doctor, ui, capacity, train, export.
"""
