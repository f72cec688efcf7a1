"""The APIs: one file each, which serves and lists it by being there (protocols/kafka/api.py)."""
