"""What `meshgate <command>` does, one file per group of commands. cli.py parses the arguments and calls run()."""
