"""Seeded synthetic stacks that stand for the published ones."""
