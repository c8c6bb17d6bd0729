"""The engine: decides what must run, runs it side by side and tells every view; it imports no other room."""
