"""How requests are run: connections, tasks, timers. No protocol details, which are in codec/ and apis/."""
