"""Where alerts and rejected records go."""
