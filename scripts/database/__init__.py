"""Database jobs run by hand: populate, backup and their kin."""
