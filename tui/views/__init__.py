"""A file per screen: what it asks the API for, and what it shows of the answer."""
