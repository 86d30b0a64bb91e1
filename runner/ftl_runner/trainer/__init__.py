"""Around transformers' Trainer: arguments from the configuration, and the callbacks that make it ours."""
