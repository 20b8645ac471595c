"""The acts of the Vault surface: mounts that sign plain logins for whoever holds a Vault token (docs/vault.md)."""
