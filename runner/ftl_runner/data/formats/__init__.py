"""Dataset formats by the name that ``type:`` gives. A new one is a file here and a line in ``registry.py``."""
