"""``python -m ftl_launcher`` is ``ftl``."""

from ftl_launcher.cli import main

if __name__ == "__main__":
    main()
