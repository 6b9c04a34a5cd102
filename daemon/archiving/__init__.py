"""Sends the archives of a fleet: what a source is, how it is read in a worker, and what was settled of it."""
