"""The host's side: what makes a stock sshd take the certificates of one realm."""
