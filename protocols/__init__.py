"""Protocol adapters: each turns one wire protocol into events and back. No adapter knows another.

A folder with a spec.py is a protocol; the other folders are what all of them share.
"""
