"""What is read back: thresholds and state objects."""
