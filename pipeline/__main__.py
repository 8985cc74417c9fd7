"""`python -m tinsmith.pipeline`: the command line."""

from tinsmith.pipeline.cli import main

if __name__ == "__main__":
    main()
