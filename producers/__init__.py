"""How readings reach the stream."""
