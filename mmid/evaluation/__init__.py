"""How good answers are: clips, scores, intervals, reports."""
