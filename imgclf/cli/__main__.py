"""`python -m imgclf.cli`: the command line of this interpreter, wherever its scripts are."""

from imgclf.cli import main

if __name__ == "__main__":
    main(prog_name="imgclf")
