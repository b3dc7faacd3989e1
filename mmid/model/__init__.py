"""The networks, and the files, registry and hub that they come from."""
