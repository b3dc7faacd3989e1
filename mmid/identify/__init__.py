"""A query to an answer: search, voting, alignment, timelines, live listening."""
