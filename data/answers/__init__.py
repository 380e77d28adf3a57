"""Final answers: how they are found and when two are equal."""
