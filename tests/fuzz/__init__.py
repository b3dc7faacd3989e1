"""Mutated files of every kind that mmid reads: `python tests/campaigns.py fuzz-midi 10000`."""
