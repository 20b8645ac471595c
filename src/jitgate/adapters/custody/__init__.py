"""Where the signer's keys lie: files, sealed files, an ssh-agent, a token (PKCS#11), a Vault's transit engine."""
