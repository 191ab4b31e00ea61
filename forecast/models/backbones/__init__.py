"""Networks that turn tokens into states, one file each."""
