"""How a pipeline is driven: hosts, which know nothing of each other."""
