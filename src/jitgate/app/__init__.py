"""Composition: settings, the programs, and the one place where the parts are put together."""
