"""The runner: what executes a fine-tuning run inside the container, on the nodes."""
