"""The version of mmid, which its files, its pages and its package all name."""

__version__ = "0.1.0"
