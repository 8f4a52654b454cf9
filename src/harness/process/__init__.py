"""The running process: how it is stopped, which sweep it belongs to, what it leaves off the screen."""
