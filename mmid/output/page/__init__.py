"""Answers as one web page, with sound and pictures."""
