"""Controllers to compare with: PALS, its ablations, simple rules and an oracle."""
