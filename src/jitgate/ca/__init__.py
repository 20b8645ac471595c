"""4 proof: what a grant becomes. The certificate's shape, its issue, and the signer's own rules."""
