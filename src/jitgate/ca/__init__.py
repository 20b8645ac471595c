"""Proof: what a grant becomes as a certificate, who signs it, and the signer's own rules."""
