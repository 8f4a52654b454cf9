"""The running process: how it is stopped, whether it still runs, what it leaves off the screen."""
