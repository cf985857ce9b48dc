"""The run folder: configuration, environment, metrics, checkpoints, and their mirror on a dashboard."""
