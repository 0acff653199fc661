"""How logged data comes in: from a watched folder, through one writer."""
