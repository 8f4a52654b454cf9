"""What other people's packages add: models, techniques, engines, by entry points."""
