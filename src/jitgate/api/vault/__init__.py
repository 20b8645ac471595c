"""The Vault surface's transport: requests and answers as Vault's clients know them, under `/vault/v1/`."""
