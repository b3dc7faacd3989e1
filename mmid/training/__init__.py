"""Pairs, augmentation, losses, and the loop that trains on them."""
