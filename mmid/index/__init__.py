"""The index of a library: built, searched, validated and maintained in a folder."""
