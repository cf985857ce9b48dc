"""Predictions against labels: scores of frames, of runs, of somebody else's predictions."""
