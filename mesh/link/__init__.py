"""Links: authenticated connections between neighbours, over WebSocket. What they carry is decided above."""
