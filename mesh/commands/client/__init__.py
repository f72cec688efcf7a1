"""What the commands share: which node, as whom, requests to it, and how the answers look."""
