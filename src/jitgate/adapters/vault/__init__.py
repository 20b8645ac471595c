"""Vault and OpenBao, by their HTTP API: the registry of people's keys (KV v2)."""
