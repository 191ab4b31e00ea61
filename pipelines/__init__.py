"""From a recipe to a champion: load, check, train, track, register, promote."""
