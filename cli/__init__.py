"""The commands, one file each; what composes the other parts."""
