"""Copies of a database that are known to restore: made, checked, kept for a while, put back."""
