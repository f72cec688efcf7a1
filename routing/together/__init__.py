"""What happens together or not at all: events published and deliveries settled in one step."""
