"""The engine: decides what must run and runs it; knows nothing of Docker, tests or databases."""
