"""Identity providers over HTTP: discovery, key sets, the device flow."""
