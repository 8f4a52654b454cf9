"""Accuracy: what a cell's own engine answers on labelled images, counted with an interval and beside fp32 eager."""
