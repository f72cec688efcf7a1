"""Client quotas: rates of users and client ids, and the throttling of who is above them."""
