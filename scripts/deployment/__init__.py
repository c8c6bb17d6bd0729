"""A release put on a target: lock, secrets, stack, roll-out, watch, rollback, status."""
