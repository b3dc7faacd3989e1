"""Other ways to identify music, to compare mmid with."""
