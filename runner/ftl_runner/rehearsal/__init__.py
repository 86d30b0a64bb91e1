"""`ftl rehearse`: a config's job made small, with a random model of the same architecture and a slice of its data."""
