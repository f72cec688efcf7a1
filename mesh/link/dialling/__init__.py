"""How a link finds and reaches its other end."""
