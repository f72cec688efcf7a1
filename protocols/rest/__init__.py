"""REST and SSE on the HTTP listener, built on aiohttp. app.py is the way in."""
