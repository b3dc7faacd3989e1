"""The command line: parse, call one function, print; a file a group of commands."""
