"""Protocol adapters: each turns one wire protocol into events and back. No adapter knows another."""
