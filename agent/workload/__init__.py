"""What runs where: pods, services, and the directory that locates a peer."""
