"""Take a measured cell away: its graph, engine and weights in a folder that runs without this project."""
