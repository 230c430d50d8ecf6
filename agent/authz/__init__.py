"""Who may talk to whom, asked beforehand: about pods, identities and addresses."""
