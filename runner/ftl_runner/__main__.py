"""``python -m ftl_runner``."""

from ftl_runner.entry import main

if __name__ == "__main__":
    main()
