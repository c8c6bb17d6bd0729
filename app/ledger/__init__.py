"""The record of runs, releases and deployments."""
