"""Dataset formats by the name that ``type:`` gives. A new one is a file in this folder and a line in ``registry.py``."""
