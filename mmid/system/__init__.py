"""Console, files, processes, tables of text, arrays on disk."""
