"""The outside world, one folder a technology."""
