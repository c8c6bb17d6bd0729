"""One module a stage: lint, test, build, scan, push, deploy."""
