"""The commands of `jitgate`, one file a noun."""
