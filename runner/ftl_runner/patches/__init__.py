"""Changes to libraries that cannot be avoided: one module each, with its version range and upstream issue."""
