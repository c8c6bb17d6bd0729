"""Fill the ledger from what a team has already: its git history, its test reports, files of events."""
