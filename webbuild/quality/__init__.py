"""How far a model's rounded weights lead it from the floats that they were made of."""
