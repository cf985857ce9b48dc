"""Arrays as pictures to look at."""
