"""What can go wrong in the world: dynamics, actuation, sensing and pushes, each with a severity in physical units."""
