"""What `meshgate <command>` does, in rooms by what they are about. cli.py parses the arguments
and calls run()."""
