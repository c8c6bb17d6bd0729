"""What differs between environments."""
