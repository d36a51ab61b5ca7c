"""`python -m training.quality`."""

from training.quality.commands import main

if __name__ == "__main__":
    main()
