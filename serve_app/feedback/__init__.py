"""What searches showed, and what shoppers made of it."""
