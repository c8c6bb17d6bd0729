"""What ships in the image: the release ledger."""

__version__ = "0.1.0"
