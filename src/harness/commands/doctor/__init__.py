"""What can this machine do: which engines build and run, and do they work."""
