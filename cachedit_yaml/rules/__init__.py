"""What is right and wrong in an adapter: the catalogue of rules, and the checks."""
