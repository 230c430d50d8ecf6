"""Who may talk to whom, with a reason for every no."""
