"""The SSH codec: wire types, public keys, certificates, SSHSIG. Strict: what parses re-encodes to the same bytes."""
