"""What ships in the image: the release ledger and the database layer under it."""
