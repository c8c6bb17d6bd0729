"""Who watches a run: each view listens to the one stream of events."""
