"""What compression costs: which layers mind it, and what it did beyond the mean."""
