"""What the user declares: text in, engine objects out."""
