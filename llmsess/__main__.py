"""`python -m llmsess`."""

from llmsess.cli import main

if __name__ == "__main__":
    main()
