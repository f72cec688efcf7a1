"""A channel and its methods: declaring, publishing, reading, settling, transactions."""
