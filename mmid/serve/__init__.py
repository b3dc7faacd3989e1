"""A page and an HTTP API for those who do not live in a shell, served on their own machine."""
