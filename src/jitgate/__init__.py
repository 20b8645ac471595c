"""jitgate: access that exists only while it is needed."""

__version__ = "0.1.0"
