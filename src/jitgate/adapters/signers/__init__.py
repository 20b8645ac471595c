"""The signer: the process that holds the CA keys and the log key, and the client that the service speaks to it with."""
