"""How fast a model is, where its time goes, and how that compares with another."""
