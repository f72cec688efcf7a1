"""The terminal dashboard, which sees the node through the management API only.

    api/        the client: requests, the live stream, logins      contexts.py   which nodes there are, with tokens
    views/      a file per screen: what it asks for, what it shows  widgets/      what draws lines
    app.py      keys, history, the header; feed.py keeps a screen fresh
"""
